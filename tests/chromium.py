"""A browser for tests: chromium without a window, and one page of it that is used through its debugging protocol."""

import base64
import json
import pathlib
import shutil
import subprocess
import time

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--window-size=1300,900",
)  # fmt: skip
needed = pytest.mark.skipif(PROGRAM is None, reason="no chromium: apt-get install chromium")
PATIENCE = 60  # seconds, for what takes far less
KEYS = {" ": 32, "Backspace": 8, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Browser:
    """A chromium that stays for several pages. https://chromedevtools.github.io/devtools-protocol/"""

    def __init__(self, folder: pathlib.Path):
        command = [PROGRAM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self._process.stderr:
            if line.startswith("DevTools listening on "):
                self._address = line.split()[-1]
                break
        self._browser = _Connection(self._address)
        self._open = [self._browser]

    def page(self, address: str = "about:blank") -> "Page":
        target = self._browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self._open.append(_Connection(f"{self._address.split('/devtools')[0]}/devtools/page/{target}"))
        page = Page(self._open[-1])
        page.open(address)
        return page

    def close(self):
        for connection in self._open:
            connection.close()
        self._process.kill()
        self._process.communicate()


class _Connection:
    def __init__(self, address: str):
        import websocket

        self._socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self._number = 0
        self.events = []

    def ask(self, method: str, **params):
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("id") == self._number:
                assert "error" not in said, said["error"]
                return said["result"]
            self.events.append(said)

    def close(self):
        self._socket.close()


class Page:
    """A tab. Places are CSS pixels of its window."""

    def __init__(self, connection: _Connection):
        self._connection = connection
        self.ask = connection.ask
        self.ask("Page.enable")
        self.ask("Runtime.enable")
        self.ask("Network.enable")
        self.ask("Log.enable")
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)  # keys reach it, whichever tab is in front

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)

    def reload(self) -> None:
        self("window.isOld = true")
        self.ask("Page.reload")
        self.wait("!window.isOld")

    def __call__(self, expression: str):
        """The value of an expression of JavaScript, also one that has to be waited for."""
        found = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str):
        """The value of an expression, once it is true."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if found := self(condition):
                    return found
            except AssertionError as error:
                last = error  # the page is still being loaded
            else:
                last = None
            time.sleep(0.02)
        raise AssertionError(f"never true: {condition}") from last

    def mouse(self, kind: str, x: float, y: float, **more) -> None:
        held = {"button": "left", "clickCount": 1, "buttons": 1} if kind != "mouseMoved" else {}
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **{**held, **more})

    def drag(self, start, end, steps: int = 4) -> None:
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start)
        for i in range(1, steps + 1):
            x, y = (a + (b - a) * i / steps for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y, button="left", buttons=1)
        self.mouse("mouseReleased", *end)

    def click(self, x: float, y: float) -> None:
        self.drag((x, y), (x, y), 0)

    def touch(self, kind: str, *places) -> None:
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        self.ask("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def press(self, key: str, *, shift: bool = False, alt: bool = False, control: bool = False) -> None:
        code = KEYS.get(key) or ord(key.upper())
        modifiers = 1 * alt + 2 * control + 8 * shift
        shared = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        text = {"text": key} if len(key) == 1 and not control else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **shared, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **shared)

    def size(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
                 mobile=phone)  # fmt: skip
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def downloads(self, folder: pathlib.Path) -> None:
        """Keeps what the page saves there."""
        self.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def choose(self, selector: str, path: pathlib.Path) -> None:
        """Gives a file to an input."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: pathlib.Path) -> None:
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def requests(self) -> list[str]:
        """The addresses that the page has asked for."""
        events = self._connection.events
        return [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the browser has said of errors in the page's programs."""
        return [json.dumps(one["params"]) for one in self._connection.events
                if one["method"] == "Runtime.exceptionThrown"
                or (one["method"] == "Log.entryAdded" and one["params"]["entry"]["level"] == "error")]  # fmt: skip

    def forget(self) -> None:
        """The requests and complaints until now."""
        self._connection.events.clear()

    def close(self) -> None:
        self.ask("Page.close")
