"""Encoder and decoder: the encoder's states start the decoder; trained by teacher forcing."""

import keras
import numpy as np
from keras import layers, ops


def main():
    keras.utils.set_random_seed(4)
    random = np.random.default_rng(4)
    symbols, length = 8, 5
    source = random.integers(1, symbols, (64, length))
    wanted = source[:, ::-1]
    shown = np.concatenate([np.zeros((64, 1), int), wanted[:, :-1]], axis=1)
    one_hot = np.eye(symbols, dtype="float32")

    encoder_inputs = keras.Input((None, symbols))
    _, state_h, state_c = layers.LSTM(12, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input((None, symbols))
    decoder = layers.LSTM(12, return_sequences=True, return_state=True)
    sequence, _, _ = decoder(decoder_inputs, initial_state=[state_h, state_c])
    read_out = layers.Dense(symbols, activation="softmax")
    model = keras.Model([encoder_inputs, decoder_inputs], read_out(sequence))
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    history = model.fit(
        [one_hot[source], one_hot[shown]], wanted, epochs=4, batch_size=16, shuffle=False, verbose=0
    )
    print("losses", *history.history["loss"])

    encoder = keras.Model(encoder_inputs, [state_h, state_c])
    given = [keras.Input((12,)), keras.Input((12,))]
    answers = decoder(decoder_inputs, initial_state=given)
    one_step = keras.Model([decoder_inputs, *given], [read_out(answers[0]), *answers[1:]])

    states = encoder.predict(one_hot[source[:3]], verbose=0)
    symbol = np.zeros(3, int)
    for step in range(length):
        shown = ops.convert_to_tensor(one_hot[symbol][:, None])
        probabilities, *states = one_step([shown, *map(ops.convert_to_tensor, states)])
        probabilities = ops.convert_to_numpy(probabilities)[:, 0]
        symbol = wanted[:3, step]
        print("step", step, *probabilities[np.arange(3), symbol])


if __name__ == "__main__":
    main()
