"""The Dash application: service -> figures -> components -> pages -> app; imports run this way only.

`state` is what a link carries, `service` the one package that knows npusim, `figures` pure functions from
its answers to plotly figures, `components` what several pages share, `pages` one module for each page, `app`
what makes one application of them. Of npusim only the command line knows this package.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    # Matrices of a chunk are too small to share: threads that wait for each other cost more than they save.
    os.environ.setdefault(_name, "1")
