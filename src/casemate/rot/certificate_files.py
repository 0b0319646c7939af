"""The files of a device's identity: every layer's request and certificate, in both algorithms.

Names are those of the public golden files: `<layer>_<csr|cert>_<ecc|mldsa>.der`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from casemate.formats import x509
from casemate.rot.boot import RootOfTrust
from casemate.rot.chain import check_chain
from casemate.rot.device_folder import DeviceFolder
from casemate.rot.errors import RotError
from casemate.rot.fuses import DEFAULT_FUSES, Fuses
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.manufacturer import ManufacturerCa


def all_files(root: RootOfTrust, fuses: Fuses, folder: DeviceFolder | None) -> dict[str, bytes]:
    """All files of a booted device that was asked for its requests, in the order of the layers.

    The manufacturer's and the IDevID's certificates come from the device's folder; for the public
    test device from its public manufacturer; for other fuses there are none.

    Raises ChainError if a chain does not hold together, RotError if a file cannot be read.
    """
    files: dict[str, bytes] = {}
    above = manufacturer_files(root, fuses, folder)
    for algorithm in Algorithm:
        if data := above.get(name := f"manufacturer_ca_{algorithm.value}.der"):
            files[name] = data
    for layer in LayerName:
        for algorithm in Algorithm:
            files[f"{layer.value}_csr_{algorithm.value}.der"] = root.requests[layer, algorithm]
            name = f"{layer.value}_cert_{algorithm.value}.der"
            if data := root.certificates.get((layer, algorithm)) or above.get(name):
                files[name] = data
    for algorithm in Algorithm:
        names = [name for name in files if name.endswith(f"_{algorithm.value}.der")]
        chain = [name for name in names if "_csr_" not in name]
        check_chain([files[name] for name in chain], chain)
    return files


def manufacturer_files(
    root: RootOfTrust, fuses: Fuses, folder: DeviceFolder | None
) -> dict[str, bytes]:
    """The manufacturer's and the IDevID certificates, by file name; see `all_files`.

    For the public test device the root of trust must have been asked for its requests.
    """
    authorities: dict[Algorithm, bytes] = {}
    initial: dict[Algorithm, bytes] = {}
    if folder is not None:
        for algorithm in Algorithm:
            authorities[algorithm] = folder.certificate("manufacturer_ca", algorithm)
            initial[algorithm] = folder.certificate("idevid_cert", algorithm)
    elif fuses == DEFAULT_FUSES and root.csr_envelope is not None:
        ca = ManufacturerCa.public_test()
        initial = ca.issue_from_envelope(root.csr_envelope, root.crypto, fuses)
        authorities = {algorithm: ca.certificate(algorithm) for algorithm in Algorithm}
    return {
        f"{name}_{algorithm.value}.der": data
        for name, found in (("manufacturer_ca", authorities), ("idevid_cert", initial))
        for algorithm, data in found.items()
    }


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the files into a folder, which is made if need be. Raises RotError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise RotError(f"{folder}: cannot be written: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Description:
    """One line about a file."""

    file: str
    size: int
    subject: str
    issuer: str | None
    key_id: str | None


def describe(name: str, data: bytes) -> Description:
    """What a certificate or request of `all_files` says about itself."""
    if "_csr_" in name:
        request = x509.read_request(data)
        return Description(name, len(data), _common_name(request.subject), None, None)
    certificate = x509.read_certificate(data)
    key_id = certificate.extension(x509.OID_SUBJECT_KEY_ID)
    return Description(
        name,
        len(data),
        _common_name(certificate.subject),
        _common_name(certificate.issuer),
        None if key_id is None else x509.read_subject_key_id(key_id.value).hex(),
    )


def _common_name(name: bytes) -> str:
    return dict(x509.read_name(name)).get(x509.OID_COMMON_NAME, "")
