"""Write the small files of TensorFlow and Keras in tests/data/tensorflow, from seeded random weights.

Run it with the Python of `make peers`: build/peers/tensorflow/bin/python tests/data/make_tensorflow.py [FOLDER]
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


class Line(tf.Module):
    """Three numbers in, four out."""

    def __init__(self, rng):
        self.w = tf.Variable(rng.normal(size=(3, 4)).astype("float32"), name="w")
        self.b = tf.Variable(tf.cast(rng.normal(size=4), tf.bfloat16), name="b")
        self.count = tf.Variable(7, dtype=tf.int64, name="count")

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def __call__(self, x):
        return x @ self.w + tf.cast(self.b, tf.float32)


def main(folder: Path) -> None:
    """Write every file into `folder`, which must not exist yet."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    line = Line(rng)
    checkpoint = tf.train.Checkpoint(model=line, step=tf.Variable(3))
    tf.train.CheckpointManager(checkpoint, "checkpoint", max_to_keep=1).save()
    tf.saved_model.save(line, "saved_model")
    frozen = convert_variables_to_constants_v2(line.__call__.get_concrete_function())
    Path("frozen.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
    with tf.compat.v1.Graph().as_default(), tf.compat.v1.Session() as session:  # a name-based one, with a cut variable
        tf.compat.v1.get_variable(
            "emb",
            (10, 4),
            initializer=tf.compat.v1.random_normal_initializer(seed=0),
            partitioner=tf.compat.v1.fixed_size_partitioner(3),
        )
        tf.compat.v1.get_variable("words", initializer=tf.constant(["a", "bc"]))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, "cut/model", write_meta_graph=False)
    model = keras.Sequential(
        [keras.layers.Input((3,)), keras.layers.Dense(4, name="first"), keras.layers.Dense(2, name="second")]
    )
    model.save("model.keras")
    model.save("model.h5")
    model.save_weights("model.weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "tensorflow")
