//! Blocks of a prompt: `<name>`, lines, `</name>`.

/// What stands in the block of that name, without the line breaks at its ends.
pub(super) fn find<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    // The document may contain such words too: the block begins with the first and ends with the last.
    let start = text.find(&open)? + open.len();
    let end = text[start..].rfind(&close)? + start;
    let inside = &text[start..end];
    let inside = inside.strip_prefix('\n').unwrap_or(inside);
    Some(inside.strip_suffix('\n').unwrap_or(inside))
}

/// A numbered line: `12. rest`.
pub(super) fn numbered(line: &str) -> Option<(u64, &str)> {
    let (number, rest) = line.trim_start().split_once(". ")?;
    Some((number.parse().ok()?, rest))
}
