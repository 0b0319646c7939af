"""The collateral room: the store, the cache's rules, sources, bundles, and no network at all."""

from __future__ import annotations

import dataclasses
import json
import tarfile
import threading
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casemate.attestation.collateral.bundle import (
    import_items,
    is_bundle,
    read_bundle,
    write_bundle,
)
from casemate.attestation.collateral.cache import CollateralCache, Terms
from casemate.attestation.collateral.endorse import add_items
from casemate.attestation.collateral.fetching import (
    FetchError,
    HttpFetcher,
    LimitedError,
    NotFoundError,
    Request,
    Response,
)
from casemate.attestation.collateral.files import items_of
from casemate.attestation.collateral.sources import Sources
from casemate.attestation.collateral.store import CollateralStore, Item
from casemate.attestation.collateral.wanted import (
    AmdChain,
    AmdCrl,
    Kind,
    Wanted,
    for_evidence,
)
from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import InfrastructureError, InputError
from casemate.attestation.evidence.family import Context, Piece
from casemate.attestation.evidence.sev_snp import ROLE, SevSnp
from casemate.attestation.evidence.tdx import Tdx as TdxFamily
from casemate.formats.sev_snp import Product
from tests.attestation.authorities import spki_of
from tests.attestation.sev_snp_maker import AT, Platform
from tests.attestation.tdx_maker import AT as TDX_AT
from tests.attestation.tdx_maker import ENDS, TdxPlatform
from tests.attestation.test_azure_snp_vtpm import GOOD as AZURE
from tests.attestation.vendor_services import Vendors, serving, tdx_of, vcek_of

SNP, TDX = Platform(), TdxPlatform()


class Clock:
    """Time that moves only when somebody sleeps or says so."""

    def __init__(self, now: datetime = AT) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


def cache_of(
    folder: Path, vendors: Vendors, clock: Clock | None = None, **terms: object
) -> CollateralCache:
    clock = clock or Clock()
    return CollateralCache(
        CollateralStore(folder),
        vendors,
        terms=dataclasses.replace(Terms(intervals={}), **terms),  # type: ignore[arg-type]
        now=clock,
        sleep=clock.sleep,
    )


# --- fetching -------------------------------------------------------------------------------


def test_what_evidence_needs_is_fetched_and_verifies(tmp_path: Path) -> None:
    vendors = Vendors(snp=(SNP,), tdx=(TDX,))
    evidence = SNP.evidence()
    quote = TDX.evidence()
    needed = for_evidence([evidence, quote])
    assert [wanted.kind for wanted in needed] == ["vcek", "amd-chain", "amd-crl", "tdx"]
    cache = cache_of(tmp_path, vendors, Clock(TDX_AT))
    items = [cache.get(wanted) for wanted in needed]
    anchors = Endorsements(anchors=(SNP.ark.anchor, TDX.anchor))
    endorsements = add_items(anchors, items)
    snp = SevSnp().verify({ROLE: (evidence,)}, Context(at=AT, endorsements=endorsements))
    assert snp.components[0].facts["revocation_checked"] is True
    tdx = TdxFamily().verify({"quote": (quote,)}, Context(at=TDX_AT, endorsements=endorsements))
    assert tdx.components[0].facts["tcb_status"] == "UpToDate"
    assert cache.counters.fetches == 4
    again = [cache.get(wanted) for wanted in needed]
    assert again == items and cache.counters.fetches == 4 and cache.counters.hits == 4


def test_what_every_kind_of_evidence_needs() -> None:
    turin = Platform(Product.TURIN)
    assert for_evidence([turin.evidence(version=5)])[0] == vcek_of(turin)
    old = for_evidence([SNP.evidence(version=2)])
    assert {wanted.key.split("/")[0] for wanted in old} == {"Milan", "Genoa"}
    vlek = for_evidence([Platform(vlek=True).evidence()])
    assert [wanted.key for wanted in vlek] == ["Milan/vlek", "Milan/vlek"]
    masked = for_evidence([Platform(masked=True).evidence()])
    assert [wanted.kind for wanted in masked] == [Kind.AMD_CHAIN, Kind.AMD_CRL]
    assert for_evidence([AZURE.hcl()]) == for_evidence([AZURE.json_evidence()])
    assert for_evidence([AZURE.hcl()])[0] == vcek_of(AZURE.platform)
    assert for_evidence([Piece(b"nothing"), Piece(bytes(1184)), Piece(b"HCLA")]) == ()


def test_one_fetch_for_many_waiters(tmp_path: Path) -> None:
    arrived = threading.Barrier(2)

    def wait_for_the_others(path: str) -> None:
        arrived.wait(10)

    vendors = Vendors(snp=(SNP,), before=wait_for_the_others)
    cache = cache_of(tmp_path, vendors)
    got: list[Item] = []
    threads = [
        threading.Thread(target=lambda: got.append(cache.get(vcek_of(SNP)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    while cache.counters.shared < 7:
        pass
    arrived.wait(10)
    for thread in threads:
        thread.join(10)
    assert len(got) == 8 and len(set(map(id, got))) == 1
    assert sum(vendors.asked.values()) == 1


def test_waiters_share_a_failure_too(tmp_path: Path) -> None:
    arrived = threading.Barrier(2)

    def fail(path: str) -> None:
        arrived.wait(10)
        raise FetchError("the line is cut")

    vendors = Vendors(before=fail)
    cache = cache_of(tmp_path, vendors)
    errors: list[str] = []

    def ask() -> None:
        try:
            cache.get(vcek_of(SNP))
        except InfrastructureError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while cache.counters.shared < 3:
        pass
    arrived.wait(10)
    for thread in threads:
        thread.join(10)
    assert len(errors) == 4 and all("the line is cut" in error for error in errors)
    assert sum(vendors.asked.values()) == 1


def test_what_is_not_there_is_not_asked_for_again_soon(tmp_path: Path) -> None:
    clock, vendors = Clock(), Vendors()
    cache = cache_of(tmp_path, vendors, clock)
    for _ in range(3):
        with pytest.raises(InfrastructureError, match="not found"):
            cache.get(vcek_of(SNP))
    assert sum(vendors.asked.values()) == 1
    clock.forward(hours=1, seconds=1)
    vendors.snp = (SNP,)
    assert cache.get(vcek_of(SNP)).key == vcek_of(SNP).key


def test_failures_are_asked_about_less_and_less(tmp_path: Path) -> None:
    def fail(path: str) -> None:
        raise FetchError("the line is cut")

    clock, vendors = Clock(), Vendors(before=fail)
    cache = cache_of(tmp_path, vendors, clock)
    asked_at = []
    for second in range(100):
        before = sum(vendors.asked.values())
        with pytest.raises(InfrastructureError, match=r"cut|not asked again"):
            cache.get(vcek_of(SNP))
        if sum(vendors.asked.values()) > before:
            asked_at.append(second)
        clock.forward(seconds=1)
    assert asked_at == [0, 5, 15, 35, 75]


def test_a_source_that_asks_to_be_left_alone_is(tmp_path: Path) -> None:
    def limit(path: str) -> None:
        raise LimitedError("slow down", 60)

    clock, vendors = Clock(), Vendors(snp=(SNP,), before=limit)
    cache = cache_of(tmp_path, vendors, clock)
    for wanted in (vcek_of(SNP), AmdChain(Product.MILAN), AmdCrl(Product.MILAN)):
        with pytest.raises(InfrastructureError, match="slow down"):
            cache.get(wanted)
    assert sum(vendors.asked.values()) == 1
    clock.forward(seconds=61)
    vendors.before = lambda path: None
    cache.get(AmdChain(Product.MILAN))


def test_a_sources_limit_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    chips = tuple(Platform(chip=bytes((n,)) * 64) for n in range(5))
    vendors = Vendors(snp=chips)
    intervals = {"kdsintf.amd.com": timedelta(seconds=10)}
    patience = timedelta(seconds=25)
    cache = cache_of(tmp_path, vendors, clock, intervals=intervals, patience=patience)
    for chip in chips:
        cache.get(vcek_of(chip))
    assert clock.slept == [10.0] * 4
    impatient = cache_of(
        tmp_path / "b", vendors, clock, intervals=intervals, patience=timedelta(seconds=5)
    )
    impatient.get(vcek_of(chips[0]))
    with pytest.raises(InfrastructureError, match="one question in 10 s"):
        impatient.get(vcek_of(chips[1]))


def test_stale_collateral_goes_out_by_policy_alone(tmp_path: Path) -> None:
    clock = Clock(TDX_AT)
    vendors = Vendors(tdx=(TDX,))
    cache = cache_of(tmp_path, vendors, clock)
    cache.get(tdx_of(TDX))
    vendors.tdx = ()
    clock.now = TDX_AT + timedelta(days=2)
    assert cache.get(tdx_of(TDX)).valid_until == ENDS
    clock.now = ENDS + timedelta(days=3)
    with pytest.raises(InfrastructureError, match="stored ended on 2026-07-01"):
        cache.get(tdx_of(TDX))
    lenient = cache_of(tmp_path, vendors, clock, stale_until=ENDS - timedelta(days=1))
    assert lenient.get(tdx_of(TDX)).valid_until == ENDS
    assert lenient.counters.stale == 1
    strict = cache_of(tmp_path, vendors, clock, stale_until=ENDS)
    with pytest.raises(InfrastructureError):
        strict.get(tdx_of(TDX))


def test_an_answer_to_another_question_is_refused(tmp_path: Path) -> None:
    other = Platform(chip=b"\7" * 64)

    class Confused(Vendors):
        def answer(self, path: str, query: str) -> Response:
            if path.endswith(vcek_of(SNP).hardware_id.hex()):
                return Response(other.signer_certificate.data)
            return Response(b"<html>")

    cache = cache_of(tmp_path, Confused(snp=(SNP,), tdx=(TDX,)), Clock(TDX_AT))
    expected: dict[Wanted, str] = {
        vcek_of(SNP): "another chip or TCB",
        AmdChain(Product.MILAN): "no amd-chain",
        AmdCrl(Product.MILAN): "no amd-crl",
        tdx_of(TDX): "expected tcbInfo",
    }
    for wanted, words in expected.items():
        with pytest.raises(InfrastructureError, match=words):
            cache.get(wanted)
    assert list(cache.store) == []


def test_urls_are_the_vendors() -> None:
    sources = Sources()
    (request,) = sources.requests(vcek_of(Platform(Product.TURIN)))
    assert request.url == (
        "https://kdsintf.amd.com/vcek/v1/Turin/0001020304050607"
        "?fmcSPL=01&blSPL=04&teeSPL=02&snpSPL=24&ucodeSPL=219"
    )
    urls = [request.url for request in sources.requests(tdx_of(TDX))]
    assert urls == [
        "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=b0c06f000000",
        "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity",
        "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
    ]


def test_the_fetcher_over_http() -> None:
    with serving(Vendors(snp=(SNP,))) as base:
        fetcher = HttpFetcher(plain_hosts=frozenset({base.removeprefix("http://")}))
        chain = fetcher.fetch(Request(f"{base}/vcek/v1/Milan/cert_chain"))
        assert chain.body.count(b"BEGIN CERTIFICATE") == 2
        posted = fetcher.fetch(Request(f"{base}/ocsp", b"question", "application/ocsp-request"))
        assert posted.body == b"question"
        assert posted.headers["x-type"] == "application/ocsp-request"
        with pytest.raises(NotFoundError):
            fetcher.fetch(Request(f"{base}/nothing"))
        with pytest.raises(LimitedError) as limited:
            fetcher.fetch(Request(f"{base}/limited"))
        assert limited.value.seconds == 77
        with pytest.raises(FetchError, match="more than"):
            fetcher.fetch(Request(f"{base}/huge"))
        with pytest.raises(FetchError, match="answered 302"):
            fetcher.fetch(Request(f"{base}/moved"))
        with pytest.raises(FetchError, match="only HTTPS"):
            HttpFetcher().fetch(Request(f"{base}/vcek/v1/Milan/crl"))
    with pytest.raises(FetchError):
        fetcher.fetch(Request(f"{base}/vcek/v1/Milan/crl"))


# --- the store ------------------------------------------------------------------------------


def _item(data: bytes = b"", wanted: Wanted | None = None, at: datetime = AT) -> Item:
    (item,) = items_of([SNP.signer_certificate], at=at)
    return dataclasses.replace(item, data=data) if data else item


def test_a_broken_item_is_left_out_and_told(tmp_path: Path) -> None:
    store = CollateralStore(tmp_path)
    item = _item()
    store.put(item)
    assert store.get(item.kind, item.key) == item
    blob = tmp_path / "blobs" / item.digest.hex()
    blob.write_bytes(item.data[:-1] + b"\0")
    assert store.get(item.kind, item.key) is None
    items, broken = store.scan()
    assert items == [] and "digest" in broken[0]
    blob.unlink()
    assert "missing" in store.scan()[1][0]
    (description,) = (tmp_path / "items").rglob("*.json")
    description.write_text("{}")
    assert "no description" in store.scan()[1][0]
    store.put(item)
    assert store.get(item.kind, item.key) == item
    renamed = description.with_name("0" * 64 + ".json")
    description.rename(renamed)
    assert "another item" in store.scan()[1][0]


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("no folder")
    with pytest.raises(InfrastructureError, match="cannot be stored"):
        CollateralStore(tmp_path).put(_item())


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    store = CollateralStore(tmp_path)
    store.put(_item())
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len(names) == 2 and not any(name.startswith(".") for name in names)


# --- bundles --------------------------------------------------------------------------------


def _full_store(folder: Path) -> CollateralStore:
    cache = cache_of(folder, Vendors(snp=(SNP,), tdx=(TDX,)), Clock(TDX_AT))
    for wanted in for_evidence([SNP.evidence(), TDX.evidence()]):
        cache.get(wanted)
    return cache.store


def test_a_bundle_carries_a_store(tmp_path: Path) -> None:
    store = _full_store(tmp_path / "a")
    seen: list[tuple[int, int]] = []
    bundle = tmp_path / "bundle.tar"
    assert write_bundle(store, bundle, progress=lambda d, t: seen.append((d, t))) == 4
    assert seen[-1] == (4, 4)
    assert is_bundle(bundle.read_bytes()[:512])
    other = CollateralStore(tmp_path / "b")
    imported = import_items(read_bundle(bundle), other)
    assert (len(imported.entered), imported.kept) == (4, 0)
    assert list(other) == list(store)
    again = import_items(read_bundle(bundle), other)
    assert (len(again.entered), again.kept) == (0, 4)
    second = tmp_path / "second.tar"
    write_bundle(other, second)
    assert second.read_bytes() == bundle.read_bytes()
    with tarfile.open(bundle) as archive:
        assert archive.getnames()[0] == "index.json"


def test_what_is_newer_stays(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar"
    write_bundle([_item()], bundle)
    store = CollateralStore(tmp_path / "store")
    store.put(_item(at=AT + timedelta(days=1)))
    assert import_items(read_bundle(bundle), store).kept == 1
    (held,) = store
    assert held.fetched_at == AT + timedelta(days=1)


@pytest.fixture(scope="module")
def bundle_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(_full_store(folder / "store"), folder / "bundle.tar")
    return (folder / "bundle.tar").read_bytes()


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0), st.integers(0, 7))
def test_a_bit_in_a_bundle_never_enters_a_store(
    bundle_bytes: bytes, tmp_path: Path, position: int, bit: int
) -> None:
    changed = bytearray(bundle_bytes)
    changed[position % len(changed)] ^= 1 << bit
    file = tmp_path / "changed.tar"
    file.write_bytes(changed)
    original = tmp_path / "original.tar"
    original.write_bytes(bundle_bytes)
    contents = {item.digest for item in read_bundle(original)}
    try:
        items = read_bundle(file)
    except InputError:
        return
    assert {item.digest for item in items} <= contents


def _rewritten(bundle: bytes, index: dict[str, object], extra: tuple[str, bytes] | None) -> bytes:
    out = BytesIO()
    with (
        tarfile.open(fileobj=BytesIO(bundle)) as old,
        tarfile.open(fileobj=out, mode="w") as new,
    ):
        for entry in old.getmembers():
            file = old.extractfile(entry)
            assert file is not None
            data = json.dumps(index).encode() if entry.name == "index.json" else file.read()
            entry.size = len(data)
            new.addfile(entry, BytesIO(data))
        if extra:
            entry = tarfile.TarInfo(extra[0])
            entry.size = len(extra[1])
            new.addfile(entry, BytesIO(extra[1]))
    return out.getvalue()


def test_a_bundle_with_any_fault_is_refused_whole(bundle_bytes: bytes, tmp_path: Path) -> None:
    with tarfile.open(fileobj=BytesIO(bundle_bytes)) as archive:
        file = archive.extractfile("index.json")
        assert file is not None
        index = json.load(file)

    def refused(data: bytes) -> str:
        path = tmp_path / "changed.tar"
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            read_bundle(path)
        return str(caught.value)

    longer = json.loads(json.dumps(index))
    longer["items"][0]["valid_until"] = "2099-01-01T00:00:00+00:00"
    assert "its content says" in refused(_rewritten(bundle_bytes, longer, None))
    fewer = {**index, "items": index["items"][1:]}
    assert "not in its index" in refused(_rewritten(bundle_bytes, fewer, None))
    more = json.loads(json.dumps(index))
    more["items"].append({**more["items"][0], "sha256": "ab" * 32})
    assert "missing" in refused(_rewritten(bundle_bytes, more, None))
    assert "not in its index" in refused(_rewritten(bundle_bytes, index, ("../evil", b"x")))
    assert "another format" in refused(_rewritten(bundle_bytes, {**index, "version": 2}, None))
    assert "no bundle" in refused(b"nothing")
    assert refused(bundle_bytes[: len(bundle_bytes) // 2])


# --- files ----------------------------------------------------------------------------------


def test_files_get_the_names_under_which_they_would_be_fetched() -> None:
    files = [*SNP.endorsements().certificates, TDX.collateral()]
    crl = NamedBytes(SNP.ark.revocation_list(), "crl.der")
    items = items_of([*files, crl], at=AT)
    assert [item.kind for item in items] == [
        Kind.VCEK,
        Kind.CERTIFICATE,
        Kind.CERTIFICATE,
        Kind.TDX,
        Kind.CRL,
    ]
    assert (items[0].key, items[3].key) == (vcek_of(SNP).key, tdx_of(TDX).key)
    endorsements = add_items(Endorsements(anchors=(SNP.ark.anchor,)), items)
    context = Context(at=AT, endorsements=endorsements)
    SevSnp().verify({ROLE: (SNP.evidence(),)}, context)


def test_no_anchor_comes_from_collateral() -> None:
    items = items_of(list(SNP.endorsements().certificates), at=AT)
    assert add_items(Endorsements(), items).anchors == ()
    with pytest.raises(InputError, match="a key is an anchor"):
        items_of([NamedBytes(spki_of(SNP.ark.key), "key.der")], at=AT)
    with pytest.raises(InputError):
        items_of([NamedBytes(b"nothing", "file")], at=AT)
