"""A terminal of so many columns, as far as our lines need one."""

import io
import re


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and knows what would stand on it."""

    def __init__(self, columns: int = 80) -> None:
        super().__init__()
        self.columns = columns

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        """The lines as they stand in the end, those that scrolled away included."""
        rows, at, column = [""], 0, 0
        for token in re.findall(r"\x1b\[\d*[A-Z]|.", self.getvalue(), re.DOTALL):
            if token == "\n":
                at, column = at + 1, 0
                rows += [""] * (at + 1 - len(rows))
            elif token == "\r":
                column = 0
            elif token == "\x1b[J":
                rows = [*rows[:at], rows[at][:column]]
            elif token.endswith("F"):
                at, column = at - int(token[2:-1]), 0
                assert at >= 0
            else:
                assert len(token) == 1, token
                if column == self.columns:
                    at, column = at + 1, 0
                    rows += [""] * (at + 1 - len(rows))
                rows[at] = rows[at][:column].ljust(column) + token + rows[at][column + 1 :]
                column += 1
        while len(rows) > 1 and not rows[-1]:
            rows.pop()
        return rows
