"""Text from outside the file: systemd credentials, environment variables, files; secrets, addresses and labels.

The only part of the configuration that takes values from outside the TOML file, and the one that must never show a secret:
no message from here holds a value, unless it stood in the file and is no secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edged.config.parsers.value import Surroundings, Value
from edged.notation.files import read_small
from edged.notation.values import BrokerUrl, HttpUrl, Secret
from edged.notation.words import did_you_mean, kind, nearest, shown
from edged.system.rights import others_may_read
from edged.topics import unfit


def _place(raw: Mapping[str, str]) -> str:
    """`environment variable NAME`."""
    ((where, called),) = raw.items()
    return f"{ {'env': 'environment variable', 'file': 'the file', 'credential': 'the credential'}[where] } {called}"


def client_id(raw: object, around: Surroundings) -> str:
    plain = ext(raw, around)
    if len(plain.encode()) > 65535:
        raise ValueError("expected at most 65535 bytes, found more")
    if found := unfit(plain):
        raise ValueError(f"expected a name without control characters and non-characters, which brokers refuse; found {found}")
    return plain


def device_id(raw: object, around: Surroundings) -> str:
    """One level of a topic."""
    if isinstance(raw, str) and _HOST_NAME.fullmatch(raw):
        raise ValueError("nothing is replaced here; leave the line out, since the host name is the default")
    plain = ext(raw, around)
    if any(c in plain for c in "/+#{}"):
        raise ValueError(f"expected a name without / + # and braces, since it stands in topics, found {_said(plain, raw)}")
    if found := unfit(plain) or ("$ as its first character" if plain.startswith("$") else ""):
        raise ValueError(f"expected a name that may stand in topics; brokers refuse those with {found}")
    return plain


def _said(plain: str, raw: object) -> str:
    """A value as a message may show it: what came from outside the file may be the wrong secret."""
    return shown(plain) if isinstance(raw, str) else "a string from outside the file, not shown here"


def broker_url(raw: object, around: Surroundings) -> BrokerUrl:
    address = ext(raw, around)
    scheme, _, rest = address.partition(":")
    wanted = "an address such as mqtt://localhost, mqtts://host:8883, wss://host/mqtt or unix:/run/mosquitto.sock"
    if scheme == "unix":
        socket = rest[2:] if rest.startswith("//") else rest
        if not socket.startswith("/"):
            raise ValueError(f"expected {wanted} (an absolute path), found {_said(address, raw)}")
        return BrokerUrl("unix", path=socket)
    authority = rest.removeprefix("//")
    if "@" in authority:
        raise ValueError(
            'a password in the address ends up in logs; use username and password = { credential = "name" }'
            if ":" in authority.rpartition("@")[0]
            else "a user in the address is not taken from there; use username"
        )
    if scheme not in PORTS or not rest.startswith("//"):
        fix = _url_fix(address, scheme, authority) if isinstance(raw, str) else ""
        raise ValueError(f"expected {wanted}, found {_said(address, raw)}{fix}")
    path = ""
    if scheme in ("ws", "wss"):
        authority, slash, path = authority.partition("/")
        path = _path(slash + path, isinstance(raw, str))
    host, port = _host_and_port(authority, address, wanted, isinstance(raw, str))
    if (scheme, port) in (("mqtts", 1883), ("mqtt", 8883)):
        usual, other = ("without TLS", "mqtts on 8883") if scheme == "mqtts" else ("with TLS", "mqtt on 1883")
        around.warnings.append(f"brokers listen on {port} {usual}, and this says {scheme}; is {other} meant?")
    return BrokerUrl(scheme, host, port if port is not None else PORTS[scheme], path)


PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
USUAL_PATH = "/mqtt"


def _path(path: str, is_shown: bool) -> str:
    """Of a websocket; where none is written, the one that most brokers have."""
    if not path.isascii() or not path.isprintable() or " " in path or "#" in path:
        raise ValueError(
            "expected a path of printable ASCII without blanks and #" + (f", found {shown(path)}" if is_shown else "")
        )
    return path or USUAL_PATH


def peer_url(raw: object, around: Surroundings) -> HttpUrl:
    """Where a model runs elsewhere."""
    address = ext(raw, around)
    scheme, _, rest = address.partition("://")
    wanted = "an address such as https://gpu-box:8000/v2/models/yolo"
    authority, slash, path = rest.partition("/")
    if scheme not in ("http", "https") or not authority:
        raise ValueError(f"expected {wanted}, found {_said(address, raw)}")
    if "@" in authority:
        raise ValueError('a password in the address ends up in logs; use token = { credential = "name" }')
    if "#" in path or not path.isascii() or any(c.isspace() or not c.isprintable() for c in path):
        raise ValueError(f"expected {wanted}, in ASCII, without blanks and #, found {_said(address, raw)}")
    host, port = _host_and_port(authority, address, wanted, isinstance(raw, str))
    return HttpUrl(
        scheme, host, port if port is not None else 443 if scheme == "https" else 80, f"{slash}{path}".rstrip("/") or "/"
    )


def header(raw: object, around: Surroundings) -> Secret:
    """The value of a header, which may be a secret."""
    plain = ext(raw, around)
    if not plain.isascii() or not plain.isprintable():
        raise ValueError("expected printable ASCII, found something else, not shown here")
    return Secret(plain)


def json_schema(raw: object, around: Surroundings) -> str:
    """The JSON of a file that describes an answer."""
    if not isinstance(raw, str) or not raw:
        raise ValueError(f"expected the path of a JSON schema, found {shown(raw)}")
    try:
        found = msgspec.json.decode(_read_text(around.file(raw)))
    except msgspec.DecodeError as error:
        raise ValueError(f"{around.folder / raw} is no JSON: {error}") from None
    if not isinstance(found, dict) or found.get("type") != "object":
        raise ValueError(f'expected {{"type": "object", ...}} in {around.folder / raw}')
    if wrong := _unusable(found, ""):
        raise ValueError(f"{around.folder / raw} is no JSON schema: {wrong}")
    return msgspec.json.encode(found, order="sorted").decode()


SCHEMA: dict[str, tuple[type, ...]] = {
    "type": (str, list),
    "properties": (dict,),
    "required": (list,),
    "enum": (list,),
    "items": (dict, bool),
    "minimum": (int, float),
    "maximum": (int, float),
}
"""The keywords that answers are judged by, and what may stand there."""


def _unusable(schema: Any, at: str) -> str:
    """What in a schema cannot be judged by; empty if all can."""
    if not isinstance(schema, dict):
        return "" if isinstance(schema, bool) else f"{at}: expected an object, found {shown(schema)}"
    for key, kinds in SCHEMA.items():
        if key in schema and not isinstance(schema[key], kinds):
            return f"{f'{at}.' if at else ''}{key}: found {shown(schema[key])}"
    inner = {f"properties.{name}": one for name, one in schema.get("properties", {}).items()} | {
        "items": schema.get("items", True)
    }
    return next(filter(None, (_unusable(one, f"{f'{at}.' if at else ''}{key}") for key, one in inner.items())), "")


def _url_fix(address: str, scheme: str, authority: str) -> str:
    secure = {"tcp": "mqtt", "ssl": "mqtts", "tls": "mqtts", "mqtt+ssl": "mqtts", "http": "mqtt", "https": "mqtts"}
    if scheme in PORTS:
        return f"; write {scheme}://{authority.lstrip('/')}"
    if scheme in secure and "//" in address:
        return f"; write {secure[scheme]}://{authority}"
    return f"; write mqtt://{address}" if "//" not in address else ""


def _host_and_port(authority: str, address: str, wanted: str, is_shown: bool) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]?#]+)(?::(\d{1,18}))?/?", authority)
    if found is None:
        name, colon, rest = authority.partition(":")
        if name and colon and not re.match(r"\d*(/|$)|[0-9A-Fa-f]*:", rest):  # the host may be missing: mqtt://user:password
            raise ValueError(f"expected {wanted}, found something else than a port after the host, not shown here")
        fix = ""
        if authority.count(":") > 1:
            fix = "; an IPv6 address stands in brackets: mqtt://[::1]:1883"
        elif not authority:
            fix = "; the host is missing"
        elif "/" in authority:
            fix = f"; without a path: {address.partition(':')[0]}://{authority.partition('/')[0]}"
        if not is_shown:
            raise ValueError(f"expected {wanted}, found {_said(address, None)}")
        raise ValueError(f"expected {wanted}, found {shown(address)}{fix}")
    host = found[1].strip("[]")
    port = int(found[2]) if found[2] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("expected a port from 1 to 65535" + (f", found {port}" if is_shown else ""))
    return host, port


def ext(raw: object, around: Surroundings) -> str:
    """External text: as it stands, or from a systemd credential, an environment variable or a file."""
    plain = _external(raw, around)
    if not plain:
        raise ValueError(f"{_place(raw)} is empty" if isinstance(raw, dict) else "expected a string, found an empty one")
    if isinstance(raw, str):
        nothing_to_replace(raw)
    if "\0" in plain:
        raise ValueError("expected a string without NUL, found one with NUL")
    return plain


def nothing_to_replace(raw: str) -> None:
    """Refuses what a shell or a template would put something else for. A `$` in the midst of a password is none."""
    found = _VARIABLE.fullmatch(raw) or _VARIABLE_WITHIN.search(raw)
    if found is None:
        return
    name = next((group for group in found.groups() if group), "NAME")
    raise ValueError(f'nothing is replaced here; write {{ env = "{name}" }}' + _whole(raw, found[0]))


def _whole(raw: str, found: str) -> str:
    return "" if found == raw else ", a variable that holds all of the string"


def secret(raw: object, around: Surroundings) -> Secret:
    plain = Secret(ext(raw, around))
    if isinstance(raw, str):
        around.warnings.append(
            'a secret in the file can be read by whoever reads the file; better { credential = "name" }, '
            '{ env = "NAME" } or { file = "path" }'
        )
    elif isinstance(raw, dict) and "file" in raw and others_may_read(file := around.folder / raw["file"]):
        around.warnings.append(f"every user of this machine may read {file}; chmod o= {file}")
    return plain


def private_key(raw: object, around: Surroundings) -> Secret:
    plain = secret(raw, around)
    if "-----BEGIN " not in plain:
        fix = '; for the path of a file: { file = "client.key" }' if isinstance(raw, str) else ""
        raise ValueError(f"expected a key in PEM form (-----BEGIN ... PRIVATE KEY-----), found a string that is none{fix}")
    return plain


def has_pass_phrase(key: Secret) -> bool:
    """Of a key in PEM form."""
    return PASS_PHRASE.search(key.reveal()) is not None


def labels(raw: object, around: Surroundings) -> tuple[str, ...]:
    """Class names by index: a list, or a file with one a line (empty lines at its end do not count)."""
    names: list[object]
    if isinstance(raw, str) and raw:
        names = [line.strip() for line in _read_text(around.file(raw)).rstrip().splitlines()]
        if not all(names):
            raise ValueError(f"expected one label a line, {around.folder / raw} has an empty line")
    elif isinstance(raw, list) and raw and all(isinstance(x, str) and x for x in raw):
        names = raw
    else:
        raise ValueError(f"expected a list of strings, or the path of a file with one a line, found {shown(raw)}")
    if isinstance(raw, str) and len(set(names)) < len(names):
        line = next(i for i, one in enumerate(names, 1) if one in names[: i - 1])
        raise ValueError(f"expected a different name for each class, line {line} of {around.folder / raw} was there before")
    for one in names:
        if names.count(one) > 1:
            raise ValueError(f"expected a different name for each class, found {shown(one)} {names.count(one)} times")
    return tuple(str(one) for one in names)


MAX_CHARSET = 65536


def charset(raw: object, around: Surroundings) -> tuple[str, ...]:
    """What classes write: one a line of a file, in which a blank is a character too."""
    if isinstance(raw, str):
        characters: list[object] = [*_read_text(around.file(raw)).split("\n")]
    elif isinstance(raw, list):
        characters = raw
    else:
        raise ValueError(f"expected a list of characters or a path, found {kind(raw)}")
    if not 0 < len(characters) <= MAX_CHARSET:
        raise ValueError(f"expected 1 to {MAX_CHARSET} characters, found {len(characters)}")
    for one in characters:
        if not isinstance(one, str):
            raise ValueError(f"expected a string for each class, found {kind(one)}")
    return tuple(str(one) for one in characters)


PASS_PHRASE = re.compile(r"-----BEGIN ENCRYPTED|^Proc-Type:.*ENCRYPTED", re.MULTILINE)
NO_PASS_PHRASE = "nobody is there to type it; openssl pkey -in key.pem -out plain.pem writes it without, for edged's eyes only"
_VARIABLE = re.compile(r"\$([A-Z_][A-Z_0-9]{2,})|%([A-Za-z_]\w*)%|\$\([^)]*\)|`[^`]*`")
_HOST_NAME = re.compile(r"(?i)\$[({]?hostname[)}]?|`hostname`|%COMPUTERNAME%")
_VARIABLE_WITHIN = re.compile(r"\$\{(\w+)[^}]*\}|\{\{\s*(\w*)[^}]*\}\}|\$\(hostname[^)]*\)|%([A-Z_]{3,})%")
EXT_FORMS = '{ credential = "name" }, { env = "NAME" } or { file = "path" }'


def _external(raw: object, around: Surroundings) -> str:
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, dict):
        raise ValueError(f"expected a string, {EXT_FORMS}, found {kind(raw)}")
    if len(raw) != 1 or next(iter(raw)) not in ("credential", "env", "file"):
        known = ("credential", "env", "file")
        keys = " and ".join(key if key in known else "a key that is none of these" for key in raw) or "nothing"
        fix = (
            did_you_mean(next(iter(raw)), known) if len(raw) == 1 else "; one of them, not both" if set(raw) < set(known) else ""
        )
        raise ValueError(f"expected {EXT_FORMS}, found a table with {keys}{fix}")
    ((where, called),) = raw.items()
    if not isinstance(called, str) or not called:
        raise ValueError(f"expected {EXT_FORMS}, found {kind(called)} for {where}")
    if where == "env":
        return _from_environment(called, around.environ)
    if where == "file":
        return _read_text(around.file(called))
    folder = around.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ValueError(
            f"credential {called}: systemd gave this process no credentials (CREDENTIALS_DIRECTORY is not set); "
            f"add LoadCredential={called}:/path to the unit, or use {{ file = ... }} or {{ env = ... }}"
        )
    if "/" in called or called in (".", ".."):
        raise ValueError(f"expected the name of a credential, found {shown(called)}; for a path: {{ file = ... }}")
    return _read_text(Path(folder) / called, f"; is LoadCredential={called}:/path in the unit?")


def _from_environment(variable: str, environ: Mapping[str, str]) -> str:
    if variable not in environ:
        meant = nearest(variable, list(environ))
        fix = (
            f"did you mean {meant}?"
            if meant
            else f"export {variable}=..., or under systemd Environment={variable}=... in the unit"
        )
        raise ValueError(f"environment variable {variable} is not set; {fix}")
    return environ[variable].rstrip("\r\n")


def _read_text(file: Path, fix: str = "") -> str:
    try:
        return read_small(file, fix).decode().replace("\r\n", "\n").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8 text") from None


Ext = Annotated[str, Value("ext", ext)]
ClientId = Annotated[str, Value("ext", client_id)]
DeviceId = Annotated[str, Value("ext", device_id)]
SecretText = Annotated[Secret, Value("ext", secret)]
Labels = Annotated[tuple[str, ...], Value("string list or path", labels)]
Charset = Annotated[tuple[str, ...], Value("string list or path", charset)]
PrivateKey = Annotated[Secret, Value("ext", private_key)]
Url = Annotated[BrokerUrl, Value("ext", broker_url)]
PeerUrl = Annotated[HttpUrl, Value("ext", peer_url)]
HeaderText = Annotated[Secret, Value("ext", header)]
JsonSchema = Annotated[str, Value("path", json_schema)]
