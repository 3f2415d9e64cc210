"""Tables in Markdown, for scripts that take hours."""


def print_table(columns, rows, path):
    """Prints each row as it comes, then writes the table to `path`. rows: (cells, full precision's perplexity) each, at least one."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    print("\n".join(lines), flush=True)
    for cells, full in rows:
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    lines.append(f"\nFull precision: {full:.2f}")
    print(lines[-1])
    path.write_text("\n".join(lines) + "\n")
