"""What `edged doctor` does: looks at a machine, and says line by line what is well and what is not, with the fix.

`look`, `wanted` and `gather` read; `findings` judges what they found. It is pure, so that a board that nobody has can be tried as
a record, or laid out as a tree of files.
"""
