"""Common mistakes, and what Recurra says: what it got, what it expected, what to change."""

# Recurra first: it has Keras run on a framework that is installed.
from recurra.layers import LSTM, Bidirectional, Dense, Input
from recurra.models import Sequential
import numpy as np

x = np.zeros((32, 5, 2))  # (batch, time_steps, features)


def too_few_names():
    output, state = LSTM(4, return_state=True)(x)  # There are three: output, state_h, state_c.


def too_many_names():
    output, state_h, state_c = LSTM(4)(x)  # return_state=True is missing.


def no_features_axis():
    LSTM(4)(np.zeros((32, 5)))


def one_axis_too_many():
    LSTM(4)(np.zeros((32, 5, 2, 2)))


def state_of_another_size():
    LSTM(4)(x, initial_state=[np.zeros((32, 8)), np.zeros((32, 8))])


def mask_of_another_shape():
    LSTM(4)(x, mask=np.ones((5, 32), bool))


def stacked_without_sequences():
    Sequential([Input((5, 2)), LSTM(4, name="lower"), LSTM(4)])  # The first keeps no steps.


def states_in_a_sequential_model():
    Sequential([Input((5, 2)), LSTM(4, return_state=True), Dense(1)])


def states_of_both_directions():
    _, *states = Bidirectional(LSTM(4, return_state=True))(Input((5, 2)))
    LSTM(4)(Input((7, 2)), initial_state=states)


def misspelt_activation():
    LSTM(4, activation="than")


messages = {}
for mistake in (
    too_few_names,
    too_many_names,
    no_features_axis,
    one_axis_too_many,
    state_of_another_size,
    mask_of_another_shape,
    stacked_without_sequences,
    states_in_a_sequential_model,
    states_of_both_directions,
    misspelt_activation,
):
    try:
        mistake()
    except ValueError as error:
        messages[mistake.__name__] = str(error)
        print(f"--- {mistake.__name__}\n{error}\n")
    else:
        raise AssertionError(f"{mistake.__name__} went unnoticed")
