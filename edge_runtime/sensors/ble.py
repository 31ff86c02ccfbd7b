"""Source `ble://ADDRESS?protocol=polar-ecg`: notifications of a Bluetooth LE wearable; alone imports bleak."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS, BleProtocol
from edge_runtime.sensors.bytestream import ByteSource, Recorder
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.playback import Pace
from edge_runtime.sensors.wired import parse_wired

READ_TIMEOUT_S, CONNECT_TIMEOUT_S = 0.2, 20.0

MakeClient = Callable[..., Any]


class BleLink:
    """A connection as a link: bleak's event loop runs in a thread of its own and hands notifications over."""

    def __init__(self, address: str, protocol: BleProtocol, make_client: MakeClient) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._protocol = protocol
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"ble {address}", daemon=True)
        self._thread.start()
        try:
            self._client = make_client(address, disconnected_callback=lambda _: self._queue.put(None))
            self._await(self._begin())
        except BaseException:
            self._end_loop()
            raise

    def read(self) -> bytes:
        """The next notification; waits READ_TIMEOUT_S at most."""
        try:
            payload = self._queue.get(timeout=READ_TIMEOUT_S)
        except queue.Empty:
            return b""
        if payload is None:
            raise ConnectionError("the device is out of reach, or not worn")
        return payload

    def close(self) -> None:
        """End the connection."""
        try:
            self._await(self._finish())
        except (OSError, TimeoutError, _errors()):
            pass  # it is gone already
        finally:
            self._end_loop()

    async def _begin(self) -> None:
        await self._client.connect()
        await self._client.start_notify(self._protocol.notify, lambda _, payload: self._queue.put(bytes(payload)))
        if self._protocol.start:
            await self._client.write_gatt_char(self._protocol.control, self._protocol.start, response=True)

    async def _finish(self) -> None:
        if self._protocol.stop:
            await self._client.write_gatt_char(self._protocol.control, self._protocol.stop, response=True)
        await self._client.disconnect()

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CONNECT_TIMEOUT_S)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(READ_TIMEOUT_S * 10)
        if not self._thread.is_alive():
            self._loop.close()


def open_ble(
    path: str, query: str, pace: Pace, recorder: Recorder | None = None, make_client: MakeClient | None = None
) -> ByteSource:
    """Connect to a device by its address; SourceLost if it does not answer, SourceError where bleak is missing."""
    where = f"ble:{path}"
    wired = parse_wired(query, where, BLE_PROTOCOLS)
    address = path.removeprefix("//")
    if not address:
        raise SettingsError(f"{where}: no address; ble://AA:BB:CC:DD:EE:FF?protocol=polar-ecg wanted")
    client = make_client or _bleak(where)
    try:
        link = BleLink(address, BLE_PROTOCOLS[wired.name], client)
    except (OSError, TimeoutError, asyncio.TimeoutError, _errors()) as error:
        raise SourceLost(f"{where}: cannot be reached ({error or type(error).__name__})") from error
    return ByteSource(where, link, wired, pace.clock, recorder)


def _bleak(where: str) -> MakeClient:
    try:
        from bleak import BleakClient
    except ImportError as error:
        raise SourceError(f"{where}: the bleak package is not installed here; pip install 'vitaledge[ble]'") from error
    found: MakeClient = BleakClient
    return found


def _errors() -> type[Exception]:
    """What bleak raises; where it is missing, an error that nobody raises."""
    try:
        from bleak.exc import BleakError
    except ImportError:
        return SourceLost
    found: type[Exception] = BleakError
    return found
