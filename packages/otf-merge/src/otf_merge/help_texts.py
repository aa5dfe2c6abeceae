"""What the help of each command begins with."""

MERGE = """Merge checkpoints into one model.

Names, dtypes and format follow the first checkpoint.

\b
  otf-merge ckpts/                          the average of all in a folder
  otf-merge a.pt b.pt -w 0.7,0.3            the same with weights
  otf-merge -m fisher ckpts/                weighted by Adam's own state
  otf-merge -m slerp a.pt b.pt --t 0.3 -o merged.safetensors
  otf-merge -m ties --base base.pt a.pt b.pt --density 0.5
  otf-merge -m distill --task mytask.py:task ckpts/

\b
  otf-merge methods [NAME]     what methods there are; all about one
  otf-merge plan ...           what a merge would do, and its recipe
  otf-merge compare ...        every method that applies, ranked on your data
"""

PLAN = """Say what a merge would do, and do nothing.

That is tensors, bytes, memory, and what to beware of. It ends with a recipe, and what comes \
before are comments, so that all of it can be saved and used.

\b
  otf-merge plan -m ties --base base.pt a.pt b.pt > recipe.yaml
  otf-merge --recipe recipe.yaml --density 0.3
"""

COMPARE = """Try every method that applies on a task's validation data, and rank them.

The parents and the base stand in the table too: a merge is of use where it is better.

\b
  otf-merge compare --task mytask.py:task ckpts/
  otf-merge compare --task mytask.py:task --base base.pt a.pt b.pt -o best.pt
  otf-merge compare --task mytask.py:task ckpts/ -m linear -m karcher
"""
