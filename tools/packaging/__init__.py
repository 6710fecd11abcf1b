"""Builds what people install without a cluster and without a checkout: `make packages`.

- wheels of poolmgr: one for each processor with libhook inside (manylinux2014), and one without it for every other platform;
- `poolmgr-hook` as deb and rpm: libhook alone, for machines where programs are started without poolmgr.

`build.py` has the steps, `hatch_build.py` what hatchling puts into a wheel, `system.py` deb and rpm.
"""
