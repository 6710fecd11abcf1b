"""The bill of materials lists the Python packages that are in the image, not all that the lock could bring."""

import pytest

from tools.image.sbom import installed_only

EXPORT = {
    "metadata": {"component": {"bom-ref": "poolmgr"}},
    "components": [
        {"bom-ref": "numpy-old", "name": "numpy", "version": "2.4.6", "externalReferences": ["a wheel"]},
        {"bom-ref": "numpy-new", "name": "numpy", "version": "2.5.5", "externalReferences": ["a wheel"]},
        {"bom-ref": "colorama", "name": "colorama", "version": "0.4.6"},
        {"bom-ref": "grpc", "name": "typing_extensions", "version": "4.16.0"},
    ],
    "dependencies": [
        {"ref": "poolmgr", "dependsOn": ["numpy-new", "colorama"]},
        {"ref": "colorama", "dependsOn": []},
    ],
}


def test_other_systems_packages_and_wheels_are_left_out() -> None:
    listed = installed_only(EXPORT, {("numpy", "2.5.5"), ("typing-extensions", "4.16.0")})
    assert listed["components"] == [
        {"bom-ref": "numpy-new", "name": "numpy", "version": "2.5.5"},
        {"bom-ref": "grpc", "name": "typing_extensions", "version": "4.16.0"},
    ]
    assert listed["dependencies"] == [{"ref": "poolmgr", "dependsOn": ["numpy-new"]}]


def test_a_package_that_the_lock_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="pip"):
        installed_only(EXPORT, {("pip", "26.0")})
