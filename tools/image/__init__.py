"""Builds the OCI image of manager, webhook and agent without a container daemon or a registry: `make image`.

Three layers, each kept in the cache under what it was made from: Debian (`debian.py`), the locked Python packages
(`environment.py`), and this tree with libhook (`project.py`). `layer.py` writes each so that the same content is the
same bytes, `oci.py` puts them together, `sbom.py` lists what is inside. Read `build.py` first.
"""
