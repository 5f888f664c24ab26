"""Who is speaking? Sequences of different lengths, one label each.

JapaneseVowels: nine men said two vowels one after the other, 640 times; each is a sequence of 7 to
29 steps of 12 numbers (M. Kudo, J. Toyama and M. Shimbo, Multidimensional Curve Classification
Using Passing-Through Regions, Pattern Recognition Letters 20, 1999). The file comes with the
package aeon, of which nothing else is needed:

    pip install --no-deps aeon==1.6.0

Short sequences are padded with zeros to the longest one, and Masking tells the recurrent layers
which steps are padding. These change nothing: the program shows it.

    python examples/l_recognize_speakers.py            a quarter of a minute
    python examples/l_recognize_speakers.py --quick    seconds; the accuracy means nothing then
"""

# Recurra first: it has Keras run on a framework that is installed.
import recurra
from recurra.layers import GRU, Bidirectional, Dense, Dropout, Input, Masking
from recurra.models import Sequential
import argparse
import importlib.util
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


def read(part):
    """The sequences, a list of (time_steps, 12), and their speakers, 0 to 8."""
    spec = importlib.util.find_spec("aeon")  # found, not imported: only its file counts
    if spec is None:
        raise SystemExit("The recordings come with aeon: pip install --no-deps aeon==1.6.0")
    folder = Path(spec.submodule_search_locations[0], "datasets", "data", "JapaneseVowels")
    lines = (folder / f"JapaneseVowels_{part}.ts").read_text().splitlines()
    rows = [line.split(":") for line in lines if line[:1] not in ("#", "@", "")]
    sequences = [
        np.array([[float(number) for number in channel.split(",")] for channel in channels]).T
        for *channels, _ in rows
    ]
    return sequences, np.array([int(row[-1]) - 1 for row in rows])


spoken, speaker = read("TRAIN")
unheard, unheard_speaker = read("TEST")
lengths = [len(sequence) for sequence in spoken + unheard]
longest = max(lengths)
print(
    f"{len(spoken)} to learn from, {len(unheard)} to recognize, {min(lengths)} to {longest} steps"
)


def padded(sequences):
    """(batch, longest, 12): zeros behind the end of each."""
    batch = np.zeros((len(sequences), longest, 12), "float32")
    for row, sequence in zip(batch, sequences, strict=True):
        row[: len(sequence)] = sequence
    return batch


# --- What one gets without a recurrent layer: the nearest of the speakers' mean vectors. ---
means = np.stack([sequence.mean(axis=0) for sequence in spoken])
centres = np.stack([means[speaker == each].mean(axis=0) for each in range(9)])
distances = [np.linalg.norm(centres - sequence.mean(axis=0), axis=1) for sequence in unheard]
baseline = float((np.argmin(distances, axis=1) == unheard_speaker).mean())

# --- Both directions of time, then one label. ---
model = Sequential(
    [
        Input((longest, 12)),
        Masking(0.0, name="masking"),
        Bidirectional(GRU(32, name="gru"), name="both_ways"),
        Dropout(0.5),
        Dense(9, activation="softmax", name="speaker"),
    ]
)
model.compile(
    optimizer=keras.optimizers.Adam(3e-3),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
model.fit(padded(spoken), speaker, epochs=1 if asked.quick else 60, batch_size=32, verbose=0)
_, accuracy = model.evaluate(padded(unheard), unheard_speaker, verbose=0)
print(f"recognized: {accuracy:.1%}; the nearest mean vector {baseline:.1%}; guessing {1 / 9:.1%}")

# --- Padding changes nothing: each sequence alone, as long as it is. ---
together = model.predict(padded(unheard[:8]), verbose=0)
alone = np.concatenate([np.asarray(model(sequence[None])) for sequence in unheard[:8]])
np.testing.assert_allclose(together, alone, atol=1e-6)
print("padded or alone, the same probabilities")

# --- What the units of both directions do; padded steps are hatched in the report. ---
trace = recurra.trace(model, padded(unheard[::60]))
print(trace.summary())
report = asked.out / "speakers.html"
trace.report(
    report,
    title="Nine speakers",
    labels=[f"speaker {each + 1}" for each in unheard_speaker[::60]],
    classes=[f"speaker {each + 1}" for each in range(9)],
    targets=unheard_speaker[::60],
)
print("the report:", report)
