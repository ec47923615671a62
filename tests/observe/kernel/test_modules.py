"""Which modules of the kernel are there, by the folders that it shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.observe.kernel import modules

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_modules_of_ebtables_legacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with its tables are told; the one that ebtables-nft uses as well is not."""
    monkeypatch.setattr(modules, "_LOADED", tmp_path)
    assert modules.of_legacy_ebtables() == []
    for name in ("ebtables", "ebt_ip", "ebtable_nat", "ebtable_filter"):
        (tmp_path / name).mkdir()
    assert modules.of_legacy_ebtables() == ["ebtable_filter", "ebtable_nat"]
