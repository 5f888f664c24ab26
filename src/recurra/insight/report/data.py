"""What a report's page is given: `report_data(trace) -> dict`, and its schema.

The page holds this as one JSON object, in `<script type="application/json" id="recurra-data">`.
Every text in it (names, labels, tokens, meanings) comes from the model, its user or Recurra and is
plain text: never HTML. The one exception is `model.svg`, markup that `diagram_svg` has made and
escaped. Counts are of the trace's; what was left out or pooled is said where it was, and once
more, in sentences for people, in `notes`.

    {"format": "recurra-report", "version": 1,
     "title": "Temperature, hourly",
     "made": "recurra 0.6.0",
     "notes": ["3 of 40 rows are here, the first ones: ...", ...]     what is not as in the trace
     "model": {
         "name": "forecaster", "kind": "Functional", "source": "model.keras",   "" if none
         "parameters": 18753,
         "svg": "<svg ...>" | null,          boxes of recurrent layers have data-path="lstm"
         "gaps": ["..."]},                   where the model could not be followed
     "rows": [                               the samples that are here, in this order
         {"index": 0, "label": "cat" | null}, ...],
     "batch": 40,                            how many the trace has
     "axes": [                               the kinds of time steps there are
         {"name": "encoder_inputs",          whose steps they are, for people
          "steps": 10000,                    how many there are
          "pool": 1,                         steps in a column; 1: every step is a column
          "columns": 10000,                  ceil(steps / pool); column c holds the steps
                                             c * pool to min((c + 1) * pool, steps) - 1
          "mask": Bytes | null,              a byte per column, by row: 0 padded, 1 real,
                                             2 some of its steps are padded; null: all real
          "tokens": [[text, ...] | null, ...] | null,   by row, one per step (not per column);
                                             "" where there is none
          "step_labels": [[text, ...], ...] | null}, ...],   likewise: what was given for each
                                             step, as the tag of a token

     "series": [                             the model's own inputs, outputs and targets
         {"name": "inputs", "role": "input" | "output" | "target",
          "of": null | "dense",              targets: the output that they are for
          "axis": 0 | null,                  null: it has no time steps (one value per channel)
          "start": 0,                        step of the axis that its first value belongs to.
                                             A forecast begins at the axis's end: its values
                                             then belong to steps start, start + 1, ...
          "steps": 10000,                    how many values along time; 1 without time steps
          "pool": 1, "columns": 10000,       as of axes, for this series (a forecast isn't pooled)
          "features": 8,                     how many channels it has
          "channels": ["open", ...],         names of those that are here
          "kept": [0, 1, ...],               which ones these are
          "kind": "numbers" | "indices" | "probabilities" | "logits",
                                             probabilities: they add up to 1 (softmax) or are one
                                             sigmoid's; indices: integers, as of an Embedding
          "values": Values}, ...],

     "layers": [                             in the order in which they run
         {"path": "bi/forward_layer",        as in the trace; node: the box in the diagram
          "node": "bi",
          "class_name": "LSTM", "cell": "lstm" | null,      null: a cell of the user's
          "units": 512, "features": 8,       features: null if unknown
          "axis": 0,
          "repeat": 1,                       rows of the layer per row of the report: more than 1
                                             inside of TimeDistributed, where each outer step is
                                             one. `index of rows` below is then row * repeat + k
          "go_backwards": false,             time runs as in the input either way
          "mask": Bytes | null,              as of the axis, but this layer's own
          "kept": [0, 1, ...],               the units that are here, in this order
          "facts": [{"name": "Engine", "text": "..."}, ...],   for people
          "equations": ["i = ...", ...], "equation_source": "Hochreiter ...",
          "arrays": [
              {"name": "forget_gate", "title": "Forget gate", "symbol": "f",
               "meaning": "How much of ...",
               "role": "state" | "gate" | "candidate" | "input" | "gradient",
               "of": "units" | "features",   what its channels are; features: see `channels`
               "channels": null | ["open", ...],     names of features; null: number them
               "kept": [0, 1, ...],          as of the layer; of features its own
               "total": 512,                 how many channels there are
               "scale": {"kind": "diverging" | "sequential",
                         "low": -1, "high": 1,       ends of the palette
                         "fixed": true,      whether these are the palette's usual ends,
                                             [-1, 1] or [0, 1]; else they are this array's own
                         "per_channel": false},      true: every channel has its own ends,
                                             values.low and values.high; low, high are null
               "values": Values}, ...],
          "lines": [                         one number per step: norms, gradient flow
              {"name": "hidden_state_norm", "title": "Length of h", "meaning": "...",
               "group": "norm" | "gradient", "values": Values}, ...],
          "table": {                         one line per unit, of ALL units, over real steps of
                                             ALL traced rows at full precision
              "columns": [
                  {"key": "forget_gate_low", "title": "f < 0.05", "meaning": "...",
                   "kind": "share" | "number" | "steps" | "flag",
                   "values": [0.25, null, ...]}, ...]} | null,
          "findings": ["12 of 512 units are dead: ...", ...]}, ...]}    for people

Bytes: {"rows": [base64, ...]}, by row, one byte per column.

Values: numbers as small integers,
    {"type": "u1" | "u2",                    uint8, or uint16 in little-endian order
     "low": -1, "high": 1,                   numbers, or lists of them with one per channel
     "missing": 255,                         the code of "no value": padded (where the trace
                                             holds one), NaN, infinite. 255, or 65535 of u2
     "levels": 254,                          value = low + code * (high - low) / levels; 254 or
                                             65534, so that the middle of the range is exact.
                                             If high == low, every value is low
     "rows": [base64, ...],                  by row (see repeat): the codes as (channels, columns),
                                             columns next to each other
     "low_rows": [...], "high_rows": [...],  only if pool > 1, likewise: the least and the greatest
                                             value in each column; "rows" holds the mean then.
                                             Padded steps are left out of all three
     "not_finite": 0}                        how many values were NaN or infinite

The largest difference between a value here and in the trace is (high - low) / (2 * levels).
"""
