"""CSV and Parquet files as record batches with line numbers; what cannot be read is named, never lost.

CSV: comma, semicolon or tab; decimal comma where the separator is not one; UTF-8; plain or gzip'd.
"""

from __future__ import annotations

import bisect
import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from models.config import ConfigError

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
BLOCK_BYTES: Final = 4 << 20
KEPT_IN_MEMORY: Final = 100
_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


class Rejects:
    """What was left out and why: `file,line,reason`, one row each, to `path` if given; the first are kept in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.count = 0
        self.first: list[tuple[str, int, str]] = []
        self._file: TextIO | None = None
        if path is not None:
            path.write_text("file,line,reason\n", encoding="utf-8")

    def add(self, file: str, line: int, reason: str) -> None:
        """One row, or one cell of a wide file, that no reading was made of."""
        self.count += 1
        if len(self.first) < KEPT_IN_MEMORY:
            self.first.append((file, line, reason))
        if self.path is not None:
            if self._file is None:  # opened late: a history that is never read leaves nothing open
                self._file = self.path.open("a", encoding="utf-8", newline="")
            csv.writer(self._file, lineterminator="\n").writerow((file, line, reason))

    def close(self) -> None:
        """Flush and close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Table(Protocol):
    """A file of rows. `columns` are its distinct column names, in file order."""

    path: Path
    columns: tuple[str, ...]

    def batches(
        self, types: Mapping[str, pa.DataType], rejects: Rejects | None = None
    ) -> Iterator[tuple[pa.RecordBatch, Lines]]: ...


class Lines:
    """Line of the file for each row of a batch: rows the parser skipped count as lines too."""

    def __init__(self, first: int, skipped: Sequence[int] = ()) -> None:
        self._first, self._skipped = first, skipped

    def __getitem__(self, row: int) -> int:
        line = self._first + int(row)
        passed = 0
        while (now := bisect.bisect_right(self._skipped, line + passed)) > passed:
            passed = now
        return line + passed

    def after(self, rows: int) -> Lines:
        """The lines of the batch without its first `rows` rows."""
        return Lines(self._first + rows, self._skipped)


def files_of(path: Path) -> list[Path]:
    """The readings files of `path`: itself, or the files of a folder in the order of their names.

    Raises ConfigError where there is none.
    """
    possible = ", ".join(SUFFIXES)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES) and not p.name.startswith("."))
        if not found:
            raise ConfigError([f"{path}: the folder holds no readings; possible: files ending in {possible}"])
        return found
    if not path.exists():
        raise ConfigError([f"{path}: no such file or folder; possible: a file ending in {possible}, or a folder of them"])
    if not path.name.endswith(SUFFIXES):
        raise ConfigError([f"{path}: not a readings file by its name; possible: a name ending in {possible}"])
    return [path]


def open_table(path: Path) -> CsvTable | ParquetTable:
    """The file as a table. Raises ConfigError for one that cannot be read."""
    return ParquetTable(path) if path.name.endswith(".parquet") else CsvTable(path)


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError([f"{path}: cannot be read: {' '.join(str(error).split()) or type(error).__name__}"])


class CsvTable:
    """A CSV file, its separator and decimal sign found from its first lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        opener = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rt", encoding="utf-8-sig") as file:
                head, second = file.readline(1 << 22).rstrip("\r\n"), file.readline(1 << 22)
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise _unreadable(path, error) from None
        if not head:
            raise ConfigError([f"{path}: the first line is empty; possible: a header line with the column names"])
        self.separator = max(",;\t", key=head.count)
        self.decimal = "," if self.separator != "," and "," in second else "."
        try:
            names = [name.strip() for name in next(csv.reader([head], delimiter=self.separator))]
        except csv.Error as error:  # a cell of more than 128 KiB
            raise _unreadable(path, error) from None
        # a second column of the same name keeps its place under a name nobody asks for
        self._names = [name if name not in names[:i] else f"{name}\0{i}" for i, name in enumerate(names)]
        self.columns = tuple(dict.fromkeys(names))
        self.repeated = tuple(dict.fromkeys(name for i, name in enumerate(names) if name in names[:i]))

    def batches(
        self, types: Mapping[str, pa.DataType], rejects: Rejects | None = None
    ) -> Iterator[tuple[pa.RecordBatch, Lines]]:
        """The columns of `types`, in that order, as batches with their line numbers.

        A row with too many or too few cells is rejected. Once a cell is no number where a float is wanted, the rest
        is read as text and converted cell by cell. Raises ConfigError where the file breaks off.
        """
        done = 0
        told: set[int] = set()
        try:
            for batch, lines in self._stream(types, rejects, told):
                yield batch, lines
                done += batch.num_rows
        except pa.ArrowInvalid as error:
            if "conversion error" not in str(error):
                raise _unreadable(self.path, error) from None
        except OSError as error:
            raise _unreadable(self.path, error) from None
        else:
            return
        try:
            yield from self._as_text(types, rejects, told, done)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(self.path, error) from None

    def _stream(
        self, types: Mapping[str, pa.DataType], rejects: Rejects | None, told: set[int]
    ) -> Iterator[tuple[pa.RecordBatch, Lines]]:
        skipped: list[int] = []

        def skip(row: pacsv.InvalidRow) -> str:
            skipped.append(row.number)
            if rejects is not None and row.number not in told:
                told.add(row.number)
                rejects.add(self.path.name, row.number, f"{row.actual_columns} cells; possible: {row.expected_columns}")
            return "skip"

        reader = pacsv.open_csv(
            self.path,
            # one thread: only then does the parser know the numbers of the lines it skips
            read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=self._names, skip_rows=1),
            parse_options=pacsv.ParseOptions(delimiter=self.separator, invalid_row_handler=skip, ignore_empty_lines=False),
            convert_options=pacsv.ConvertOptions(
                column_types=dict(types),
                include_columns=list(types),
                null_values=[""],
                strings_can_be_null=True,
                decimal_point=self.decimal,
            ),
        )
        done = 0
        for batch in reader:
            yield batch, Lines(2 + done, skipped)
            done += batch.num_rows

    def _as_text(
        self, types: Mapping[str, pa.DataType], rejects: Rejects | None, told: set[int], done: int
    ) -> Iterator[tuple[pa.RecordBatch, Lines]]:
        """What `_stream` yields after its first `done` rows, with the cells that are no numbers rejected."""
        texts = {name: pa.string() if pa.types.is_floating(kind) else kind for name, kind in types.items()}
        passed = 0
        for whole, lines in self._stream(texts, rejects, told):
            start = max(0, done - passed)
            passed += whole.num_rows
            batch, rest = whole.slice(start), lines.after(start)
            if batch.num_rows:
                columns = [
                    self._numbers(name, batch.column(name), rest, rejects)
                    if pa.types.is_floating(kind)
                    else batch.column(name)
                    for name, kind in types.items()
                ]
                yield pa.RecordBatch.from_arrays(columns, names=list(types)), rest

    def _numbers(self, name: str, column: pa.Array, lines: Lines, rejects: Rejects | None) -> pa.Array:
        texts = pc.utf8_trim_whitespace(column)
        if self.separator != ",":  # the first decimal comma may stand far below the first lines
            texts = pc.replace_substring(texts, ",", ".")
        blank = pc.fill_null(pc.equal(texts, ""), fill_value=True)
        good = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), fill_value=False)
        if rejects is not None:
            for row in pc.indices_nonzero(pc.invert(pc.or_(blank, good))).to_pylist():
                rejects.add(self.path.name, lines[row], f"column {name!r}: {repr(column[row].as_py())[:60]} is not a number")
        return pc.if_else(good, texts, pa.scalar(None, pa.string())).cast(pa.float64())


class ParquetTable:
    """A Parquet file; `line` is the row number, from 1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                self.schema = file.schema_arrow
        except (OSError, pa.ArrowInvalid) as error:
            raise _unreadable(path, error) from None
        self.columns = tuple(dict.fromkeys(self.schema.names))
        self.repeated = ()

    def batches(
        self,
        types: Mapping[str, pa.DataType],
        rejects: Rejects | None = None,  # noqa: ARG002 - Table's signature; a typed file has no bad cells
    ) -> Iterator[tuple[pa.RecordBatch, Lines]]:
        """The columns of `types`; only columns wanted as floats are converted, others keep the file's type.

        Raises ConfigError for a column that cannot be numbers, and where the file breaks off.
        """
        done = 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=1 << 16, columns=list(types)):
                    columns = []
                    for name, kind in types.items():
                        column = batch.column(name)
                        floating = pa.types.is_floating(kind)
                        columns.append(column.cast(kind, safe=False) if floating else column)
                    yield pa.RecordBatch.from_arrays(columns, names=list(types)), Lines(1 + done)
                    done += batch.num_rows
        except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _unreadable(self.path, error) from None
