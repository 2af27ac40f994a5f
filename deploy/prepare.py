"""Makes what may not be in the repository: passwords, certificates, and the files that hold them.

    python3 deploy/prepare.py [--consumer NAME ...] [--rabbitmq HOST] [--mongodb HOST]

Everything goes to `deploy/secrets`. Run again, it keeps every password and certificate that is
there, so a consumer can be added later. It needs Python alone, and `openssl` 3 for certificates for
a trial; put your own in their place under the same names.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Sequence, Set
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

_DEPLOY = Path(__file__).resolve().parent
_MODEL = "calories"  # a further consumer has its rights
_VHOST = "paceline"
_INSTALLED = "/etc/paceline"  # where every part looks for its files
_NO_USER = "producer"  # it talks to neither server, and has to know only which way it is run
_SCALER = "scaler"  # it asks how long queues are, and runs nothing of ours
_ENVIRONMENT = "PACELINE_BROKER_URL={}\nPACELINE_STORE_URL={}\n"
_INGRESS_NAMES = ("ingress", "paceline", "paceline-query")


class Servers(NamedTuple):
    """Where the broker and the database are."""

    rabbitmq: str
    mongodb: str


def prepare(folder: Path, servers: Servers, *, more: Sequence[str] = ()) -> None:
    """Write every file; raises CalledProcessError where openssl fails, OSError for the disk."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    broker, store = _read("rabbitmq/definitions.json"), _read("mongodb/users.json")
    new = sorted(set(more) - {user["name"] for user in broker["users"]})
    broker, store = _with_consumers(broker, new), _with_consumers(store, new)
    known = ({user["name"] for user in broker["users"]}, {user["user"] for user in store["users"]})
    everybody = {"root", "app", "ingress"}.union(*known)
    passwords = _passwords(folder / "passwords.json", everybody)
    _put(folder / "rabbitmq.json", _broker_users(broker, passwords))
    _put(folder / "mongodb.json", _store_users(store, passwords))
    for part in {_NO_USER}.union(*known) - {_SCALER}:
        broker_user, store_user = (_user(part, users, passwords) for users in known)
        urls = (_broker_url(servers, broker_user), _store_url(servers, store_user))
        _put(folder / f"{part}.env", _ENVIRONMENT.format(*urls))
    scaler = _broker_url(servers, _user(_SCALER, known[0], passwords))
    _put(folder / "scaler.url", scaler.partition("?")[0])
    _doors(folder, passwords)
    _certificates(folder, servers)


def _broker_users(broker: dict[str, Any], passwords: dict[str, str]) -> str:
    for user in broker["users"]:
        user["password_hash"] = rabbit_hash(passwords[user["name"]])
    return json.dumps(broker, indent=1)


def _store_users(store: dict[str, Any], passwords: dict[str, str]) -> str:
    for user in store["users"]:
        user["pwd"] = passwords[user["user"]]
    return json.dumps({**store, "root": passwords["root"]}, indent=1)


def _read(name: str) -> Any:
    return json.loads((_DEPLOY / name).read_text())


def _with_consumers(node: Any, names: Sequence[str]) -> Any:
    """Return the definitions with each entry of the model repeated for every further consumer."""
    if isinstance(node, dict):
        return {key: _with_consumers(value, names) for key, value in node.items()}
    if not isinstance(node, list):
        return node
    grown: list[Any] = []
    for item in node:
        if isinstance(item, dict) and {_MODEL, f"paceline-{_MODEL}"} & set(_texts(item)):
            text = json.dumps(item)
            copies = [re.sub(rf"\b{_MODEL}\b", name, text) for name in names]
            grown += [item, *map(json.loads, copies)]
        else:
            grown.append(_with_consumers(item, names))
    return grown


def _texts(item: dict[str, Any]) -> list[str]:
    return [value for value in item.values() if isinstance(value, str)]


def _passwords(file: Path, names: set[str]) -> dict[str, str]:
    known = json.loads(file.read_text()) if file.exists() else {}
    passwords = {name: known.get(name) or secrets.token_hex(24) for name in sorted(names)}
    _put(file, json.dumps({**known, **passwords}, indent=1), private=True)
    return passwords


def rabbit_hash(password: str) -> str:
    """Return what RabbitMQ stores of a password: base64 of a salt and SHA-256 of both."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _user(part: str, known: Set[str], passwords: dict[str, str]) -> str:
    return f"{part}:{passwords[part]}@" if part in known else ""


def _broker_url(servers: Servers, user: str) -> str:
    return f"amqps://{user}{servers.rabbitmq}:5671/{_VHOST}?cafile={_INSTALLED}/ca.crt"


def _store_url(servers: Servers, user: str) -> str:
    options = f"replicaSet=rs0&tls=true&tlsCAFile={_INSTALLED}/ca.crt"
    return f"mongodb://{user}{servers.mongodb}:27017/?{options}"


def _doors(folder: Path, passwords: dict[str, str]) -> None:
    """Write who may enter. A key of 192 random bits needs no slow hash, and requests stay fast."""
    digests = {
        name: base64.b64encode(hashlib.sha1(passwords[name].encode()).digest()).decode()  # noqa: S324
        for name in ("app", "ingress")
    }
    rows = "".join(f"{name}:{{SHA}}{digest}\n" for name, digest in digests.items())
    if not (folder / "ingress.htpasswd").exists():  # lines for other apps are added by hand
        _put(folder / "ingress.htpasswd", rows)
    own = base64.b64encode(f"ingress:{passwords['ingress']}".encode()).decode()
    _put(folder / "ingress.key.conf", f'proxy_set_header Authorization "Basic {own}";\n')


def _certificates(folder: Path, servers: Servers) -> None:
    if not (folder / "ca.crt").exists():
        _openssl(folder, "ca", "/O=Paceline/CN=Paceline trial CA", _AUTHORITY)
    here = ("localhost", "127.0.0.1")
    for name, hosts in {
        "rabbitmq": ("rabbitmq", servers.rabbitmq, *here),
        "mongodb": ("mongodb", servers.mongodb, *here),
        "ingress": (*_INGRESS_NAMES, *here),
    }.items():
        if not (folder / f"{name}.crt").exists():
            # The unit tells them apart: MongoDB takes who shares its own for a member of the set.
            subject = f"/O=Paceline/OU={name}/CN={hosts[0]}"
            _openssl(folder, name, subject, (*_SERVER, _alternatives(hosts)))
    pem = (folder / "mongodb.key").read_text() + (folder / "mongodb.crt").read_text()
    _put(folder / "mongodb.pem", pem)


_AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
# MongoDB's nodes are each other's clients.
_SERVER = ("basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth")


def _alternatives(hosts: Sequence[str]) -> str:
    named = [f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in dict.fromkeys(hosts)]
    return f"subjectAltName={','.join(named)}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _openssl(folder: Path, name: str, subject: str, extensions: Sequence[str]) -> None:
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    _put(key, "", private=name == "ca")
    signer = () if name == "ca" else ("-CA", f"{folder}/ca.crt", "-CAkey", f"{folder}/ca.key")
    added = [part for extension in extensions for part in ("-addext", extension)]
    command = ["openssl", "req", "-x509", "-config", os.devnull, "-noenc", *_KEY]
    made = [
        "-keyout",
        f"{key}",
        "-out",
        f"{certificate}",
        "-subj",
        subject,
        "-sha256",
        "-days",
        "825",
    ]
    subprocess.run([*command, *made, *added, *signer], check=True, capture_output=True)
    certificate.chmod(0o644)


def _put(file: Path, text: str, *, private: bool = False) -> None:
    """Write a file. The folder keeps other people out; users inside of containers must read it."""
    file.touch(mode=0o600)
    file.chmod(0o600 if private else 0o644)
    file.write_text(text)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--consumer", action="append", default=[], help="one more; repeatable")
    parser.add_argument("--rabbitmq", default="rabbitmq", help="the broker's host")
    parser.add_argument("--mongodb", default="mongodb", help="the database's host")
    parser.add_argument("--into", type=Path, default=_DEPLOY / "secrets", help="the folder")
    given = parser.parse_args()
    os.umask(0o077)
    for name in given.consumer:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            parser.error(f"{name!r} is no consumer's name")
    prepare(given.into, Servers(given.rabbitmq, given.mongodb), more=given.consumer)
    print(f"Written to {given.into}. The app's key: user `app`, password in passwords.json.")  # noqa: T201


if __name__ == "__main__":
    main()
