"""What a report's page is given: `report_data(trace) -> dict`, and its schema.

The page holds this as one JSON object. Every text in it (names, labels, tokens, meanings) comes
from the model, its user or Recurra and is plain text, never HTML; the one exception is `diagram`,
markup that `diagram_svg` has made and escaped. What is not as in the trace (rows left out, steps
pooled) is said where it is, and once more, in sentences for people, in `notes`.

    {"format": "recurra-report", "version": 1,
     "title": "Temperature, hourly", "created": "2026-11-21 16:40", "recurra": "0.6.0",
     "notes": ["Rows: 3 of 40, the first ones ...", ...],
     "batch": 40,                            rows of the trace
     "limits": {"max_bytes": 25165824, "rows": [3, 40], "units": null, "stride": 1},
                                             for programs; units: how many a layer may show
     "model": {"name": "forecaster", "kind": "Functional", "source": "model.keras" or "",
               "parameters": 18753 | null, "gaps": [sentences]},
     "diagram": "<svg ...>" or "",           boxes of recurrent layers have data-path="lstm"
     "findings": [{"code": "R101", "severity", "where", "problem", "why", "advice"}, ...],
     "axes": [                               the kinds of time steps there are
         {"name": "encoder_inputs",          whose steps they are, for people
          "time_steps": 10000, "columns": 1250, "stride": 8}, ...],
                                             column c holds steps c * stride to
                                             min((c + 1) * stride, time_steps) - 1
     "rows": [                               the samples that are here, in this order
         {"index": 0,                        in the trace
          "label": "cat" | null,
          "facts": [["predicted", "cat (0.93)"], ...],
          "tokens": [{"axis": 0, "items": [text per step, "" where there is none]}, ...],
          "tags": [{"axis": 0, "items": [text per step]}, ...]}, ...],
                                             tags: what was given as labels of single steps
     "series": [                             the model's own inputs and outputs, and the targets
         {"name": "inputs", "role": "input" | "output" | "target",
          "of": null | "dense",              of targets: the output that they are for
          "kind": "numbers" | "indices" | "probabilities",
                                             probabilities: add up to 1, or are a sigmoid's;
                                             indices: integers, as of an Embedding
          "axis": 0 | null,                  null: no time steps, one value per channel
          "start": 0,                        step of its first value; a forecast begins at the
                                             axis's end: value k belongs to step start + k
          "columns": 1250, "stride": 8,      1 and 1 without an axis; a forecast has stride 1
          "names": ["open", ...] | null,     of the channels that are here
          "total": 8,                        channels in the model
          "channel_index": [0, 1] | null,    which ones are here; null for all
          "rows": [blob, ...]}, ...],        float32
     "layers": [                             in the order in which they run
         {"path": "bi/forward_layer", "node": "bi",     node: data-path of the box
          "class_name": "LSTM", "cell": "lstm" | null,  null: a cell of the user's
          "units": 512, "features": 8 | null,
          "unit_index": [3, 17, ...] | null,            the units that are here; null for all
          "unit_names": ["(0, 1, 2)", ...] | null,      of units that are no plain numbers
          "axis": 0,
          "outer": 1,                        rows of the layer per row of the report, as inside of
                                             TimeDistributed; blob number = row * outer + k
          "go_backwards": false,             time runs as in the input either way
          "facts": [["Engine", "cpu: ..."], ...],
          "initial": "Starts from ..." or "",
          "equations": ["i = ...", ...], "source": "Hochreiter ...",
          "masks": [text | null, ...],       by row * outer + k: a character per column, "1" real,
                                             "0" padded, "2" partly; null for all real
          "arrays": [
              {"name": "forget_gate", "title": "Forget gate", "symbol": "f",
               "meaning": "How much of ...",
               "role": "state" | "gate" | "candidate" | "input" | "gradient",
               "scale": "diverging" | "unit" | "symmetric" | "range",
                                             diverging: fixed at [-1, 1]; unit: fixed at [0, 1];
                                             symmetric: own, about 0; range: own
               "range": [-1, 1] | null,      null: every channel has its own (blob.ranges)
               "total": 512,                 channels in the model
               "channel_index": [3, 17] | null, "channel_names": [...] | null,
               "rows": [blob, ...]}, ...],
          "curves": [                        one number per step, of all units
              {"name": "hidden_state_norm", "title": "Length of h", "symbol": "|h|",
               "meaning": "...", "group": "norm" | "gradient",
               "log": false,                 true: values are log10 of the quantity
               "rows": [blob, ...]}, ...],
          "summary": null | {                of ALL rows and steps of the trace, at full precision
              "sentences": ["3 of 64 units are dead: ...", ...],
              "columns": [{"key": "memory", "name": "Memory", "meaning": "...",
                           "format": "steps" | "share" | "number" | "flag"}, ...],
              "units": {"memory": [1.5, null, ...], ...}}}, ...]}    by ALL units of the layer

Blobs hold numbers, channels one after the other, each with its columns next to each other:

    {"dtype": "uint8", "range": [low, high], "data": base64}
    {"dtype": "uint8", "ranges": [[low, high] per channel], "data": base64}
    {"dtype": "float32", "data": base64}     little-endian

uint8: value = low + code * (high - low) / 254, so that the middle of the range is exact, and a
value differs from the trace's by at most (high - low) / 508. Code 255, and NaN in float32, is no
value: a padded step, or what is not finite in the trace. Where stride is above 1, "data" is the
mean of each column's real steps, and "low" and "high" hold its least and greatest value likewise.
"""
