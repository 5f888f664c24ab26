"""The parts of the benchmark: each measures one thing, and makes tables of what it found.

A part is a module with
    NAME: of its file in results/;
    ROUNDS: how many, unless told otherwise;
    jobs(bench): yields functions that measure something and return a result;
    line(result): a result in a line, for the terminal;
    tables(results): what to show.
"""
