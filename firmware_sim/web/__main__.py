"""Writes a page that recognises speech with a bundle in the browser, offline.

    python -m firmware_sim.web --bundle=DIR --out=SITE              a folder, for any web server
    python -m firmware_sim.web --bundle=DIR --out=FILE.html --single    one file, for file:// too
    python -m firmware_sim.web --bundle=DIR --serve                 a page on this machine

The page takes the microphone and files.  It has the bundle's parameters, both models as plans of
the engine, and the core with the engine as WebAssembly.  Everything is computed in the browser; a
Content-Security-Policy forbids it to send anything.

--examples=FILE,FILE adds recordings to try; their names are what is said in them.  Browsers give
the microphone only to pages from https:// or localhost.
"""

import functools
import http.server
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Final

from absl import flags

from firmware_sim import bundle as bundles
from firmware_sim.bundle import BundleError
from firmware_sim.c.signature import ExportError
from firmware_sim.command_line import tool
from firmware_sim.web import site
from firmware_sim.web.site import SiteError

_TYPES: Final = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".plan": "application/octet-stream",
}


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a page, with its policy."""

    def __init__(self, *arguments: object, policy: str, directory: str) -> None:
        self._policy = policy
        self.extensions_map = {**self.extensions_map, **_TYPES}
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", self._policy)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not worth a line."""


def server(directory: pathlib.Path, policy: str, port: int) -> http.server.ThreadingHTTPServer:
    """A server of a page, for this machine only; port 0: any."""
    handler = functools.partial(_Handler, policy=policy, directory=str(directory))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def _serve(directory: pathlib.Path, policy: str, port: int) -> None:
    try:
        serving = server(directory, policy, port)
    except OSError as error:
        raise SiteError(
            f"Port {port} cannot be used ({error.strerror}); name another --port."
        ) from error
    with serving:
        print(f"http://localhost:{serving.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        serving.serve_forever()


def _examples(name: str) -> list[pathlib.Path]:
    """Recordings for a shipped bundle."""
    return sorted((site.EXAMPLES / name).glob("*.flac"))


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    values = flags.FLAGS
    try:
        if len(argv) > 1:
            raise SiteError(f"Unexpected argument {argv[1]!r}; name the output by --out.")
        if values.single and (values.serve or not values.out):
            raise SiteError("--single writes one file: name it by --out, without --serve.")
        if not values.out and not values.serve:
            raise SiteError("Nothing to do: name a folder by --out, or --serve the page.")
        loaded = bundles.load(values.bundle)
        name = pathlib.Path(values.bundle).stem
        examples = [pathlib.Path(path) for path in values.examples] or _examples(name)
        content = site.files(loaded, name, examples)
        with tempfile.TemporaryDirectory() as scratch:
            out = pathlib.Path(values.out or pathlib.Path(scratch, "site"))
            if values.single:
                site.write_single(site.single(content), out)
            else:
                site.write(content, out)
            if values.serve:
                _serve(out, site.policy(content), values.port)
    except (SiteError, ExportError, BundleError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """Entry point of the console script."""
    flags.DEFINE_string("bundle", None, "Directory, .zip or name of the bundle.", required=True)
    flags.DEFINE_string("out", None, "Folder to write, or file with --single.")
    flags.DEFINE_bool("single", False, "One HTML file instead of a folder.")
    flags.DEFINE_bool("serve", False, "Serve the page on this machine.")
    flags.DEFINE_integer("port", 8000, "Port of --serve; 0: any.", 0, 65535)
    flags.DEFINE_list("examples", [], "Recordings to try on the page.")
    tool.run(main)


if __name__ == "__main__":
    run()
