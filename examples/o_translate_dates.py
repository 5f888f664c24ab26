"""Sequence to sequence: dates as people write them, read by one LSTM and written by another.

    "Tuesday, 3 March 2026" -> encoder LSTM -> (state_h, state_c) -> decoder LSTM -> "2026-03-03"

The encoder's output is thrown away: all that the decoder gets is the encoder's final state. In
training the decoder is given the right characters, shifted by one (teacher forcing); afterwards it
is given what it has written itself, one step at a time.

    python examples/o_translate_dates.py            about a minute
    python examples/o_translate_dates.py --quick    seconds; what it writes means nothing then
"""

# Recurra first: it has Keras run on a framework that is installed.
import recurra
from recurra.layers import LSTM, Dense, Embedding, Input
from recurra.models import Model
import argparse
import datetime
import re
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
rng = np.random.default_rng(0)

FORMATS = (
    "%d %B %Y",
    "%B %d, %Y",
    "%A, %d %B %Y",
    "%d.%m.%Y",
    "%m/%d/%y",
    "%d %b %y",
    "%a %b %d %Y",
)
FIRST, LAST = datetime.date(1970, 1, 1).toordinal(), datetime.date(2068, 12, 31).toordinal()
CHARACTERS = "\0^" + "".join(sorted({*"0123456789-./, ", *map(chr, range(97, 123))}))
START = 1  # "^", the decoder's first input; 0 is padding


def numbers(text, length):
    """(length,): the characters' numbers, zeros behind them."""
    found = [CHARACTERS.index(character) for character in text]
    return np.array(found + [0] * (length - len(found)))


def draw(count):
    """Dates in one of the formats, small letters, often without leading zeros; and as ISO dates."""
    texts, isos = [], []
    for ordinal in rng.integers(FIRST, LAST, size=count):
        date = datetime.date.fromordinal(int(ordinal))
        text = date.strftime(FORMATS[rng.integers(len(FORMATS))]).lower()
        texts.append(re.sub(r"\b0(\d)\b", r"\1", text) if rng.random() < 0.5 else text)
        isos.append(date.isoformat())
    return texts, isos


texts, isos = draw(600 if asked.quick else 12_000)
unseen, answers = draw(50 if asked.quick else 500)
longest = max(map(len, texts + unseen))
x = np.stack([numbers(text, longest) for text in texts])
y = np.stack([numbers(iso, 10) for iso in isos])
shifted = np.concatenate([np.full((len(y), 1), START), y[:, :-1]], axis=1)

# --- Two layers that share nothing but the state. ---
read = Input((longest,), dtype="int32", name="text")
embedded = Embedding(len(CHARACTERS), 24, mask_zero=True, name="letters")(read)
_, *state = LSTM(128, return_state=True, name="encoder")(embedded)

given = Input((None,), dtype="int32", name="written_so_far")
letters = Embedding(len(CHARACTERS), 24, name="written_letters")
decoder = LSTM(128, return_sequences=True, return_state=True, name="decoder")
scores = Dense(len(CHARACTERS), name="scores")
output, _, _ = decoder(letters(given), initial_state=state)
model = Model([read, given], scores(output), name="dates")

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
epochs = 1 if asked.quick else 20
rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * (len(x) // 64 + 1))
model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
model.fit([x, shifted], y, batch_size=64, epochs=epochs, verbose=0)

# --- Writing: the encoder once, then the decoder's own characters, one step at a time. ---
encoder = Model(read, state)
h, c = Input((128,)), Input((128,))
output, *after = decoder(letters(given), initial_state=[h, c])
one_step = Model([given, h, c], [scores(output), *after])


def translate(texts):
    """The ISO dates that the model writes."""
    states = encoder.predict(np.stack([numbers(text, longest) for text in texts]), verbose=0)
    last, written = np.full((len(texts), 1), START), []
    for _ in range(10):
        likely, *states = one_step.predict([last, *states], batch_size=512, verbose=0)
        last = likely[:, -1:].argmax(axis=-1)
        written.append(last[:, 0])
    return ["".join(CHARACTERS[number] for number in row) for row in np.array(written).T]


def first_guess(text):
    """Without learning: the first format that fits."""
    for form in ("%m/%d/%y", "%d.%m.%Y", "%d %B %Y", "%B %d, %Y"):
        try:
            return datetime.datetime.strptime(text, form).date().isoformat()
        except ValueError:
            pass
    return ""


written = translate(unseen)
right = float(np.mean([a == b for a, b in zip(written, answers, strict=True)]))
baseline = float(np.mean([first_guess(a) == b for a, b in zip(unseen, answers, strict=True)]))
for text, iso in list(zip(unseen, written, strict=True))[:5]:
    print(f"    {text:28} -> {iso}")
print(f"translated right: {right:.1%}; trying four formats {baseline:.1%}")

# --- Who gives the decoder its first state, and what is in it? ---
print(recurra.explain(model))
few = np.stack([numbers(text, longest) for text in unseen[:4]])
told = np.stack([numbers("^" + iso[:-1], 10) for iso in written[:4]])
trace = recurra.trace(model, [few, told])
print(trace.summary())
report = asked.out / "dates.html"
trace.report(
    report,
    title="Dates, read and written",
    labels=written[:4],
    classes=["padding", "start", *CHARACTERS[2:]],
    tokens={
        "text": [list(text) for text in unseen[:4]],
        "written_so_far": [list("^" + iso[:-1]) for iso in written[:4]],
    },
)
print("the report:", report)
