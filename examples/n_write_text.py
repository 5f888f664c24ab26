"""Text, one character after the other: learnt from Python's own help, then written in a stream.

At each step the model says how likely each character is to come next. How good it is: the number
of bits that it needs per character of a text it has not seen, beside counting which character
follows which. Then the trained model is loaded without Keras, and a session writes: the state of
all that was written so far stays in it, so a character costs one step, however long the text.

    python examples/n_write_text.py            about a minute
    python examples/n_write_text.py --quick    seconds; what it writes means nothing then
"""

# Recurra first: it has Keras run on a framework that is installed.
import recurra
from recurra.layers import GRU, Dense, Embedding, Input
from recurra.models import Sequential
import argparse
import pydoc_data.topics
import time
from pathlib import Path

import keras
import numpy as np

options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
options.add_argument("--quick", action="store_true", help="see it run, not learn")
options.add_argument(
    "--out", type=Path, default=Path("recurra-examples"), help="folder to write to"
)
asked = options.parse_args()
asked.out.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)

LENGTH = 100
topics = [topic for _, topic in sorted(pydoc_data.topics.topics.items())]
learnt, unseen = "".join(topics[10:]), "".join(topics[:10])
if asked.quick:
    learnt, unseen = learnt[:20_000], unseen[:4_000]
characters = sorted(set(learnt))
number_of = {character: number for number, character in enumerate(characters)}


def numbers(text):
    """The characters as numbers; those that were not learnt are left out."""
    return np.array([number_of[each] for each in text if each in number_of])


def pieces(text):
    """(pieces, LENGTH) of characters, and of those that follow each of them."""
    found = numbers(text)
    count = (len(found) - 1) // LENGTH
    return tuple(found[s : s + count * LENGTH].reshape(count, LENGTH) for s in (0, 1))


x, y = pieces(learnt)
unseen_x, unseen_y = pieces(unseen)
print(f"{x.size:,} characters to learn from, {len(characters)} different ones")

# --- Counting: how likely is each character after the one, or the two, before it? ---
size = len(characters)
singly = np.full(size, 0.1) + np.bincount(y.ravel(), minlength=size)
singly /= singly.sum()
pairs = np.zeros((size, size))
np.add.at(pairs, (x, y), 1)
pairs = (pairs + 2 * singly) / (pairs.sum(axis=1, keepdims=True) + 2)
triples = np.zeros((size, size, size))
np.add.at(triples, (x[:, :-1], x[:, 1:], y[:, 1:]), 1)
triples = (triples + 2 * pairs) / (triples.sum(axis=2, keepdims=True) + 2)
seen = triples[unseen_x[:, :-1], unseen_x[:, 1:], unseen_y[:, 1:]]
baseline = float(-np.log2(seen).mean())

# --- A recurrent layer carries on more than two characters. ---
model = Sequential(
    [
        Input((None,), dtype="int32"),
        Embedding(size, 32, name="characters"),
        GRU(192, return_sequences=True, name="gru"),
        Dense(size, name="scores"),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
epochs = 1 if asked.quick else 8
rate = keras.optimizers.schedules.CosineDecay(6e-3, epochs * (len(x) // 32 + 1))
model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
bits = float(model.evaluate(unseen_x, unseen_y, verbose=0)) / np.log(2)
print(
    f"bits per character: {bits:.2f}; counting triples {baseline:.2f}; "
    f"at random {np.log2(size):.2f}"
)

# --- Writing: one step per character, without Keras. ---
path = asked.out / "writer.keras"
model.save(path)
session = recurra.load(path).open()
rng = np.random.default_rng(0)
start = "The statement "
scores = session.run(numbers(start))[-1]
written, begin = [], time.perf_counter()
for _ in range(300):
    likely = np.exp((scores - scores.max()) / 0.6)
    choice = rng.choice(size, p=likely / likely.sum())
    written.append(characters[choice])
    scores = session.step(choice)
each = (time.perf_counter() - begin) / 300
print(f"--- written, at {1e6 * each:.0f} us per character with its drawing:")
print(start + "".join(written))
print("---")

# A fork goes on by itself: the same beginning, another end.
other = session.fork()
assert np.array_equal(other.step(number_of["e"]), session.step(number_of["e"]))

# --- Which units know of brackets, of words' ends, of headings? ---
tokens = [[characters[number] for number in row] for row in unseen_x[:4]]
trace = recurra.trace(model, unseen_x[:4])
print(trace.summary())
report = asked.out / "text.html"
trace.report(
    report, title="Python's help, character by character", tokens=tokens, classes=characters
)
print("the report:", report)
