"""What goes into a bundle beside the record: checkpoints, and models made from them."""

import hashlib
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List, Sequence, Set

import msgspec

from ..events import CheckpointSaved
from . import names, provenance
from .draft import key_of
from .heldfiles import FileGone, FileMissing, HeldFiles, opened
from .manifest import Member
from .weights import NotLoadable, TorchFile
from .work import BLOCK, Work
from .writer import BundleWriter, NotWhatItWas, Sink


class Members:
    """The members of a bundle that is being written, and what could not be one.

    `is_kept` says whether the session still counts on a checkpoint. `paths` says under which name the checkpoint with a key is there, `lost` why one is not;
    `notes` are sentences for a person.
    """

    def __init__(
        self,
        bundle: BundleWriter,
        files: HeldFiles,
        work: Work,
        is_kept: Callable[[CheckpointSaved], bool],
    ) -> None:
        self._bundle = bundle
        self._files = files
        self._work = work
        self._is_kept = is_kept
        self._taken: Set[str] = set()
        self.listed: List[Member] = []
        self.paths: Dict[str, str] = {}
        self.lost: Dict[str, str] = {}
        self.notes: List[str] = []

    def count(self, folder: str) -> int:
        """How many members lie in a folder."""
        return sum(member.name.startswith(f"{folder}/") for member in self.listed)

    def add_checkpoints(self, checkpoints: Sequence[CheckpointSaved]) -> None:
        """Add checkpoints as they are; one that is missing or damaged is left out, and noted."""
        self._work.expect(sum(saved.size for saved in checkpoints))
        for saved in checkpoints:
            name = names.free_name(names.CHECKPOINTS, Path(saved.path).name, self._taken)
            try:
                with self._files.open(saved) as file:
                    sink = self._bundle.add(
                        name, file, size=saved.size, when=saved.time, sha256=saved.sha256
                    )
            except (FileGone, NotWhatItWas) as error:
                self._taken.discard(names.folded(name))
                why = self._why(saved, error)
                self.lost[key_of(saved)] = f"left out of the bundle: {why}"
                self.notes.append(f"The checkpoint {key_of(saved)} is left out: {why}.")
                continue
            self.paths[key_of(saved)] = name
            self._list(name, sink, saved)

    def add_models(self, checkpoints: Sequence[CheckpointSaved]) -> None:
        """Add the weights alone of checkpoints, each as a file that torch loads as a state dict."""
        for saved in checkpoints:
            plain = f"{saved.run}-{saved.label}.pt"
            name = names.free_name(names.FINAL_MODELS, plain, self._taken)
            try:
                with self._files.open(saved) as file:
                    if key_of(saved) not in self.paths:
                        self._verify(file, saved)
                    model = TorchFile(file).part("model")
                    self._work.expect(model.size)
                    with self._bundle.member(name, size=model.size, when=saved.time) as sink:
                        model.write(sink)
            except (FileGone, NotWhatItWas, NotLoadable) as error:
                why = self._why(saved, error)
                self.notes.append(f"The model of {key_of(saved)} is left out: {why}.")
                self._taken.discard(names.folded(name))
                continue
            self._list(name, sink, saved)

    def add_imported_models(self, folder: Path, runs: Set[str]) -> None:
        """Add the models of an imported session whose checkpoints did not come with them."""
        origin = provenance.read(folder)
        there = {(member.run, member.label) for member in self._models()}
        for member in origin.manifest.members if origin is not None else []:
            if not _is_model(member) or member.run not in runs:
                continue
            if (member.run, member.label) in there or names.problem(member.name):
                continue
            plain = member.name.partition("/")[2]
            name = names.free_name(names.FINAL_MODELS, plain, self._taken)
            self._work.expect(member.size)
            try:
                with opened(folder / member.name) as file:
                    self._bundle.add(name, file, size=member.size, when=0.0, sha256=member.sha256)
            except (FileGone, NotWhatItWas) as error:
                self.notes.append(f"The model {member.name} is left out: {error}.")
                continue
            self.listed.append(msgspec.structs.replace(member, name=name))

    def note_missing_models(self, runs: Sequence[str]) -> None:
        """Note of which of these runs there is no model."""
        there = {member.run for member in self._models()}
        for run in runs:
            if run not in there:
                self.notes.append(
                    f"No model of the run {run} is in {names.FINAL_MODELS}: it has no final and no "
                    "best checkpoint that could be read."
                )

    def add_record(self, path: Path, when: float) -> None:
        """Add the session's database."""
        size = path.stat().st_size
        self._work.expect(size)
        with opened(path) as file:
            sink = self._bundle.add(path.name, file, size=size, when=when, compress=True)
        self.listed.append(Member(name=path.name, size=sink.size, sha256=sink.sha256))

    def _why(self, saved: CheckpointSaved, error: Exception) -> str:
        """Why a file is left out: that training made room for newer ones is no loss."""
        if isinstance(error, FileMissing) and not self._is_kept(saved):
            return "training has removed it meanwhile, as it does with older ones"
        return str(error)

    def _models(self) -> List[Member]:
        return [member for member in self.listed if _is_model(member)]

    def _list(self, name: str, sink: Sink, saved: CheckpointSaved) -> None:
        self.listed.append(
            Member(
                name=name,
                size=sink.size,
                sha256=sink.sha256,
                checkpoint=key_of(saved),
                run=saved.run,
                step=saved.step,
                label=saved.label,
            )
        )

    def _verify(self, file: BinaryIO, saved: CheckpointSaved) -> None:
        """Read a checkpoint that is not itself in the bundle, to see that it is what was written."""
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
            self._work.did(0)
        if saved.sha256 and digest.hexdigest() != saved.sha256:
            raise NotWhatItWas("its SHA-256 is not the one in the session")


def _is_model(member: Member) -> bool:
    return member.name.startswith(f"{names.FINAL_MODELS}/")
