"""Exercises that answer: each has a check, a reference solution, and a hint for every common mistake.

Each notebook has one module here, which ends in `EXERCISES = [Exercise(...), ...]`. `kit.cells` makes the notebook's
exercise cells and the notebook of solutions from it.
"""

import inspect
from typing import Any, cast

from llmnotes.errors import UnknownName
from llmnotes.exercises import (
    attention,
    attention_layer,
    converting_models,
    dot_products,
    embeddings,
    fewer_bits,
    fine_tuning,
    gguf_and_llama_cpp,
    gptq,
    learning,
    looking_inside,
    model_files,
    one_token,
    other_ways_to_save,
    qlora,
    quantization,
    scaling_out,
    scores_to_text,
    serving,
    start_here,
    tokens,
    training_in_small,
    vision_language,
)
from llmnotes.exercises.exercise import Exercise, assess
from llmnotes.exercises.progress import remember

# number of the notebook -> its exercises, in order
BY_NOTEBOOK: dict[str, list[Exercise]] = {
    "00": start_here.EXERCISES,
    "01": tokens.EXERCISES,
    "02": embeddings.EXERCISES,
    "03": dot_products.EXERCISES,
    "04": attention.EXERCISES,
    "05": attention_layer.EXERCISES,
    "06": one_token.EXERCISES,
    "07": scores_to_text.EXERCISES,
    "08": looking_inside.EXERCISES,
    "09": learning.EXERCISES,
    "10": training_in_small.EXERCISES,
    "11": model_files.EXERCISES,
    "12": converting_models.EXERCISES,
    "13": fewer_bits.EXERCISES,
    "14": quantization.EXERCISES,
    "15": gptq.EXERCISES,
    "16": other_ways_to_save.EXERCISES,
    "17": fine_tuning.EXERCISES,
    "19": qlora.EXERCISES,
    "22": gguf_and_llama_cpp.EXERCISES,
    "23": serving.EXERCISES,
    "25": vision_language.EXERCISES,
    "26": scaling_out.EXERCISES,
}


def find(exercise_id: str) -> Exercise:
    """Return the exercise with this id; raises `UnknownName` with the ids or notebooks that exist.

    >>> find("00.1").title
    'Bits per weight'
    """
    number = exercise_id.partition(".")[0]
    if number not in BY_NOTEBOOK:
        raise UnknownName(f"There are no exercises for “{number}”; there are some for {', '.join(BY_NOTEBOOK)}.")
    for exercise in BY_NOTEBOOK[number]:
        if exercise.id == exercise_id:
            return exercise
    known = ", ".join(exercise.id for exercise in BY_NOTEBOOK[number])
    raise UnknownName(f"There is no exercise {exercise_id}; there are {known}.")


def check(exercise_id: str, answer: object) -> None:
    """Print the verdict on `answer`, and remember the exercise as solved if it is right.

    Raises `UnknownName` for an id that does not exist; never for a wrong answer.

    >>> check("00.1", lambda size, parameters: None)
    ○ 00.1 Bits per weight: still to do: bits_per_weight returns nothing yet
    """
    _report(find(exercise_id), answer)


def take(exercise_id: str, answer: Any) -> Any:
    """Print the verdict on `answer` as `check` does; return it if it is right, and the course's own solution if not.

    So a lesson goes on with what the reader wrote, and nothing that the reader types can break it.

    >>> bits_per_weight = take("00.1", lambda size, parameters: None)
    ○ 00.1 Bits per weight: still to do: bits_per_weight returns nothing yet
    The lesson goes on with ours.
    >>> bits_per_weight(1000, 500)
    16.0
    """
    exercise = find(exercise_id)
    if _report(exercise, answer):
        print("The lesson goes on with yours.")
        return answer
    print("The lesson goes on with ours.")
    scope: dict[str, Any] = {}
    exec(compile(exercise.complete, exercise_id, "exec"), scope)
    return scope[exercise.name]


def _report(exercise: Exercise, answer: object) -> bool:
    """Print the verdict on an answer, remember a right one, and return whether it is right."""
    verdict = assess(exercise, answer)
    mark = {"right": "✓", "to do": "○"}.get(verdict.state, "✗")
    print(f"{mark} {exercise.id} {exercise.title}: {verdict.message}")
    if verdict.state == "right":
        remember(exercise.id, _source(answer))
    return verdict.state == "right"


def _source(answer: object) -> str:
    """Return the code of an answer that is a function or a class, "" where there is none."""
    try:
        return inspect.getsource(cast(Any, answer))
    except (OSError, TypeError):
        return ""


def reveal(guess: object, truth: object) -> None:
    """Print what the reader guessed beside what is true; `guess` is None where the reader made no guess.

    >>> reveal("Paris", "something else")
    You guessed Paris. It is something else.
    """
    if guess is None:
        print(f"No guess yet. It is {truth}.")
    elif guess == truth:
        print(f"Your guess is right: {truth}.")
    else:
        print(f"You guessed {guess}. It is {truth}.")
