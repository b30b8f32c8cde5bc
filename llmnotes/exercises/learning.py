"""The exercises of notebook 09: cross-entropy in one line, its slope, a training loop, and four curves to diagnose."""

from llmnotes.exercises.exercise import Exercise
from llmnotes.exercises.learning_checks import check_cross_entropy, check_curves, check_gradient, check_train

THREE = "loss.backward()\n        optimizer.step()\n        optimizer.zero_grad()"
ENTROPY = '''import torch


def cross_entropy(logits, targets):
    """Return the mean of -ln p of the right words."""
    p = torch.softmax(logits, dim=-1)
    right = p[torch.arange(len(targets)), targets]
    return ...'''
GRADIENT = '''import torch


def gradient(logits, target):
    """Return the slope of the loss for each logit of one row."""
    ...'''
TRAIN = '''import torch


def train(model, data, optimizer, steps, batch=None, seed=0):
    """Take some steps on data, (inputs, targets), and return the loss before each."""
    inputs, targets = data
    random = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        rows = slice(None)  # all of them
        if batch is not None:
            rows = torch.randint(len(inputs), (batch,), generator=random)
        loss = model.loss(inputs[rows], targets[rows])
        # your three lines
        losses.append(loss.item())
    return losses'''
EXERCISES = [
    Exercise(
        id="09.1",
        title="One line",
        level="easy",
        minutes=4,
        task="""Complete the last line: the mean of $-\\ln p$ over all predictions. `logits` has one row for each
prediction, and `targets` the number of the word that really came. The line in the middle picks one number from each
row: `p[[0, 1, 2], [5, 3, 5]]` is row 0 column 5, row 1 column 3, row 2 column 5. So `right` holds the probability that
each row gave to the word that came.""",
        clue="`right.log()` is the natural logarithm of each number, and `.mean()` their mean.",
        name="cross_entropy",
        stub=ENTROPY,
        solution=ENTROPY.replace("...", "-right.log().mean()"),
        check=check_cross_entropy,
        hints={
            "sign": "only the sign is wrong. The logarithm of a probability is negative, and a loss is not.",
            "sum": "this is the sum. We want the mean, so that long and short texts can be compared.",
            "each": "this is one loss for each prediction. We want a single number: their mean.",
            "late_log": "here the mean comes first and the logarithm second. It must be the other way round.",
            "no_log": "this is minus the mean of p; the logarithm is missing.",
            "chance": "this is the mean of p; minus and logarithm are missing.",
            "not_right": "this is how much belief went to wrong words. It never exceeds 1; the logarithm is missing.",
            "base": "this logarithm has the base 2. Ours is the natural one, `log`.",
            "base_10": "this logarithm has the base 10. Ours is the natural one, `log`.",
            "perplexity": "this is e to the loss, the perplexity, which comes a little later. Leave out the last step.",
            "all_words": "this is the mean over all words of the table. Only the words that came count: use `right`.",
            "twice": "the softmax is taken twice: PyTorch's function takes one itself. Use `right`, the line above.",
            "other_way": "this softmax runs down the columns. Each row is one prediction, so it takes dim=-1.",
            "all_pairs": "`p[:, targets]` takes every target from every row. Each row needs only its own: "
            "`p[torch.arange(len(targets)), targets]`.",
            "bare": "the number is right, but no longer a tensor, or made outside PyTorch. Training has to go back "
            "through the calculation, so only tensors and their methods: no .item(), float(), math or NumPy.",
            "32_bits": "right to six digits or so, but in another precision than the logits. Leave out .float(), "
            "or whatever changes the type.",
            "cut": "the number is right, but the tensor has lost its way back to the logits, and training goes back. "
            "Leave out .detach(), .data or no_grad().",
        },
        kept=True,
    ),
    Exercise(
        id="09.2",
        title="Guess minus truth",
        level="easy",
        minutes=5,
        task="""Up or down, for a whole row at once: write `gradient(logits, target)`. It gets the logits of one
prediction, a row of any length, and `target`, the number of the word that came. It returns $p - y$, one slope for each
logit, as a tensor. The check tries rows in which $p$ is not the same everywhere, and so does the lesson.""",
        clue="First $p$, with `torch.softmax(logits, dim=-1)`. Then take 1 away from it, in the place `target` only.",
        name="gradient",
        stub=GRADIENT,
        solution=GRADIENT.replace("    ...", "    p = torch.softmax(logits, dim=-1)\n    p[target] -= 1\n    return p"),
        check=check_gradient,
        hints={
            "swapped": "this is truth minus guess: the way down. The slope is guess minus truth.",
            "guess_only": "this is the guess p alone. The truth, 1 for the word that came, is still to be taken away. "
            "If you do take it away: is the result kept, as with `p[target] -= 1`?",
            "no_softmax": "here 1 is taken from the logit. Make probabilities of the logits first, with a softmax.",
            "one_number": "this is the slope of one logit, that of the word that came. We want a slope for each.",
            "others_zero": "the right word's slope is right. The other words have one, too: their own p, since y is 0.",
            "right_left_out": "the other words are right. The one that came has the slope p − 1, not 0.",
            "place": "this takes away the *number* of the word that came, everywhere. Take away 1, in its place only.",
            "everywhere": "1 is taken away everywhere. Take it away only in the place of the word that came.",
            "log": "there is a logarithm too many: it is p − y, and not ln p − y.",
            "mean": "the row is one prediction, so there is nothing to divide by.",
            "loss": "this is the loss itself. We want how it changes with each logit.",
            "losses": "this is −ln p of every word. We want how the loss changes with each logit: p − y.",
            "size": "y has another length than the row. If you use `one_hot`, tell it how many words there are: "
            "`one_hot(torch.tensor(target), len(logits))`.",
            "number": "`one_hot` wants a tensor, not a number: `one_hot(torch.tensor(target), len(logits))`.",
            "axis": "the row is a single prediction and has one axis only, so the softmax takes dim=-1.",
            "bare": "the numbers are right, but not in a tensor. Return one: no .tolist(), no NumPy.",
            "digits": "the numbers are right, but not to all digits. Leave out what rounds them or changes the type.",
        },
        kept=True,
    ),
    Exercise(
        id="09.3",
        title="Your own train",
        level="medium",
        minutes=8,
        task="""Put the loop into a function for *any* model and *any* optimizer. In its body three lines are
missing: get the gradients, change the weights, clear the gradients. `train` knows neither the weights nor the rate;
the optimizer knows both. (`batch` is for section 09.5: with a number, each step uses that many pairs, drawn at
random.)""",
        clue="The first of the three is `loss.backward()`, as above. The others are methods of `optimizer`.",
        name="train",
        stub=TRAIN,
        solution=TRAIN.replace("# your three lines", THREE),
        check=check_train,
        hints={
            "not_cleared": "the old gradients are still there. backward() adds to them, so clear them in every step, "
            "with optimizer.zero_grad() and its brackets.",
            "no_gradient": "step() finds no gradients. loss.backward() makes them: with brackets, and before step().",
            "cleared_first": "step() finds no gradients, because they have just been cleared. step() has to come "
            "between backward() and zero_grad().",
            "no_step": "nothing changes the weights. That's the optimizer's step(), with brackets.",
            "step_of": "step() takes nothing in its brackets: the gradients lie with the weights already.",
            "optimizer_backward": "the optimizer has no backward(). The loss has: it knows what it was made from.",
            "model_zero_grad": "our model has no zero_grad(). The optimizer has: it knows which weights to clear.",
            "loss_zero_grad": "the loss has no zero_grad(). The optimizer has: it knows which weights to clear.",
            "table_only": "`logits` are the numbers of our table, and another model has other weights. The optimizer "
            "knows them, and the rate: its step() changes them, its zero_grad() clears their gradients.",
            "own_rate": "this takes the rate 30 whatever the optimizer was made with. Its own step() knows the rate.",
            "uphill": "the loss rises, since the steps go uphill. Leave the sign alone: the optimizer subtracts.",
            "twice": "each step is twice as long as the rate says. Call backward() and step() once in each round.",
            "late": "these losses were measured after the step. Keep the loss before it: that's the one you had.",
            "no_list": "train has to return the list `losses`, with one number for each step.",
            "none": "a line calculates with a gradient that is None, so it was never computed, or on another model. "
            "Use only what train is given: loss.backward(), then two methods of the optimizer.",
            "tensors": "the losses are right, but append loss.item(): a tensor keeps the whole calculation alive.",
            "rounded": "the losses are right, but rounded. Append loss.item() with all its digits.",
            "rows": "each step draws the same rows. Make the generator once, before the loop.",
        },
        kept=True,
    ),
    Exercise(
        id="09.4",
        title="Read the curves",
        level="easy",
        minutes=5,
        task="""*A task from work.* Four colleagues trained the same table on the same text, and something is wrong in
three of the runs. Their curves are below. Write for each run `"fine"`, or what is wrong with its learning rate:
`"too small"`, `"too large"`, or `"wrong sign"` (the step was added, not subtracted).""",
        clue="A table that knows nothing pays ln 78 = 4.36. Which run grows from its first step on, far above that?",
        name="diagnosis",
        stub='diagnosis = {"A": None, "B": None, "C": None, "D": None}',
        solution='diagnosis = {"A": "too large", "B": "wrong sign", "C": "fine", "D": "too small"}',
        check=check_curves,
        hints={
            "keys": "it should stay a dictionary with the four names A, B, C and D.",
            "words": 'write one of "fine", "too small", "too large", "wrong sign" for each run.',
            "nearly_there": "C isn't slow: it falls fast at first, and hardly falls any more once it is near the 1.45 "
            "of counting. Which run is still high up, and still going down?",
            "swapped": "C and D are right. Too large a rate jumps up and down; the wrong sign goes up only.",
        },
    ),
]
