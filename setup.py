"""Puts the shipped bundles into the package: pretrained/NAME becomes firmware_sim/bundles/NAME."""

import pathlib

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithBundles(build_py):
    """An editable install reads the bundles from the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for manifest in sorted(pathlib.Path("pretrained").glob("*/manifest.json")):
            target = pathlib.Path(self.build_lib, "firmware_sim", "bundles", manifest.parent.name)
            self.mkpath(str(target))
            for file in manifest.parent.iterdir():
                self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": BuildWithBundles})
