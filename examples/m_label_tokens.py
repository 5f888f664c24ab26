"""A label for every step: what is each name in a piece of Python?

The standard library's own source, cut into tokens. The model sees words as the parser does (the
commonest by name, all others as <name>, <number>, <string>) and says for each token what it is: a
call, a parameter, an attribute, ... What is right comes from Python's own parser. `f` may be
called or handed on, which only the next token tells: so the layer reads in both directions.

    python examples/m_label_tokens.py            half a minute
    python examples/m_label_tokens.py --quick    seconds; the accuracy means nothing then
"""

# Recurra first: it has Keras run on a framework that is installed.
import recurra
from recurra.layers import LSTM, Bidirectional, Dense, Embedding, Input
from recurra.models import Sequential
import argparse
import ast
import collections
import io
import sysconfig
import tokenize
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

KINDS = ["other", "definition", "parameter", "call", "attribute", "assigned", "read", "keyword="]
LEARNT = (
    "argparse ast calendar configparser csv datetime dis fractions gzip heapq inspect json/decoder"
)
LEARNT += " json/encoder locale logging/__init__ mailbox nntplib ntpath optparse pathlib pickle"
LEARNT += " platform posixpath pstats random shutil smtplib socket statistics string subprocess"
LEARNT += " tarfile textwrap threading timeit tokenize trace typing unittest/case urllib/parse"
UNSEEN = "bdb cmd difflib email/message ftplib glob imaplib pdb poplib sched shelve uuid zipfile"
LENGTH = 64


def names_of(tree):
    """{(line, column): kind} of the names in a module, as Python's parser sees them."""
    found = {}
    for node in ast.walk(tree):
        place = (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
        if isinstance(node, ast.arg):
            found[place] = "parameter"
        elif isinstance(node, ast.Name):
            found.setdefault(place, "assigned" if isinstance(node.ctx, ast.Store) else "read")
        elif isinstance(node, ast.Attribute):
            found.setdefault((node.end_lineno, node.end_col_offset - len(node.attr)), "attribute")
        elif isinstance(node, ast.keyword) and node.arg:
            found[place] = "keyword="
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                found[called.lineno, called.col_offset] = "call"
            elif isinstance(called, ast.Attribute):
                column = called.end_col_offset - len(called.attr)
                found[called.end_lineno, column] = "call"
    return found


def tokens_of(path):
    """The words of a file and what each of them is."""
    source = path.read_text(encoding="utf-8")
    kinds = names_of(ast.parse(source))
    lines = source.splitlines()
    previous = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER, tokenize.ENCODING):
            continue
        line, column = token.start
        # The parser counts bytes, the tokenizer characters.
        text = lines[line - 1] if line <= len(lines) else ""
        kind = kinds.get((line, len(text[:column].encode())), "other")
        if previous in ("def", "class"):
            kind = "definition"
        if token.type == tokenize.NUMBER:
            word = "<number>"
        elif token.type == tokenize.STRING or tokenize.tok_name[token.type].startswith("FSTRING"):
            word = "<string>"
        else:
            word = token.string.strip() or f"<{tokenize.tok_name[token.type].lower()}>"
        previous = token.string
        yield word, KINDS.index(kind if token.type == tokenize.NAME else "other")


def read(names):
    """All words and kinds of some modules of the standard library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = [library / f"{name}.py" for name in names.split()]
    pairs = [pair for path in paths if path.exists() for pair in tokens_of(path)]
    return [word for word, _ in pairs], np.array([kind for _, kind in pairs])


def cut(array):
    """(pieces, LENGTH), without the rest at the end."""
    return np.asarray(array[: len(array) // LENGTH * LENGTH]).reshape(-1, LENGTH)


words, kinds = read("argparse glob" if asked.quick else LEARNT)
unseen_words, unseen_kinds = read("sched" if asked.quick else UNSEEN)
common = [word for word, _ in collections.Counter(words).most_common(400)]
number_of = {word: number for number, word in enumerate(common, start=1)}  # 0: any other name
x, y = cut([number_of.get(word, 0) for word in words]), cut(kinds)
unseen_x, unseen_y = cut([number_of.get(word, 0) for word in unseen_words]), cut(unseen_kinds)
print(f"{x.size:,} tokens to learn from, {unseen_x.size:,} to label, of modules not seen before")

# --- Without context: each word's commonest kind. ---
usual = np.array([np.bincount(y[x == n], minlength=len(KINDS)).argmax() for n in range(401)])
names = unseen_y > 0
baseline = float((usual[unseen_x] == unseen_y)[names].mean())

# --- In context. ---
model = Sequential(
    [
        Input((LENGTH,), dtype="int32"),
        Embedding(401, 32, name="words"),
        Bidirectional(LSTM(48, return_sequences=True, name="lstm"), name="both_ways"),
        Dense(len(KINDS), activation="softmax", name="kind"),
    ]
)
model.compile(optimizer=keras.optimizers.Adam(4e-3), loss="sparse_categorical_crossentropy")
model.fit(x, y, epochs=1 if asked.quick else 6, batch_size=32, verbose=0)
labelled = model.predict(unseen_x, verbose=0).argmax(axis=-1)
accuracy = float((labelled == unseen_y)[names].mean())
print(f"names labelled right: {accuracy:.1%}; each word's commonest kind {baseline:.1%}")

# --- The units that light up at calls, over the text itself. ---
pieces = unseen_x[:4]
trace = recurra.trace(model, pieces)
print(trace.summary())
report = asked.out / "tokens.html"
trace.report(
    report,
    title="What is each name?",
    tokens=cut(unseen_words)[:4].tolist(),
    classes=KINDS,
    targets=unseen_y[:4],
    labels=[f"piece {number + 1}" for number in range(len(pieces))],
)
print("the report:", report)
