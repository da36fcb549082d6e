//! HAProxy's line grammar (configuration manual 2.2 to 2.4): one directive a line, words parted by blanks, quoting, escapes, `#` comments,
//! environment variables inside double quotes.

/// Looks an environment variable up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LexError {
    /// 1-based column of the character at fault.
    pub column: usize,
    pub message: String,
}

/// Splits one line into words. An empty vector means a blank line or a comment.
pub fn words(line: &str, env: Env<'_>) -> Result<Vec<String>, LexError> {
    let bytes = line.as_bytes();
    let mut out: Vec<String> = Vec::new();
    let mut cur: Vec<u8> = Vec::new();
    let (mut in_word, mut squote, mut dquote) = (false, None, None);
    let mut i = 0;
    let err = |column: usize, message: &str| LexError { column: column + 1, message: message.to_owned() };
    while i < bytes.len() {
        let c = bytes[i];
        i += 1;
        match c {
            b'\'' if dquote.is_none() => {
                squote = if squote.is_some() { None } else { Some(i - 1) };
                in_word = true;
            }
            _ if squote.is_some() => cur.push(c),
            b'"' => {
                dquote = if dquote.is_some() { None } else { Some(i - 1) };
                in_word = true;
            }
            b'\\' => {
                in_word = true;
                let Some(&n) = bytes.get(i) else {
                    return Err(err(i - 1, "nothing follows the last '\\' of the line"));
                };
                i += 1;
                match n {
                    b' ' | b'\\' | b'#' | b'"' | b'\'' => cur.push(n),
                    b'$' if dquote.is_some() => cur.push(n),
                    b'n' => cur.push(b'\n'),
                    b'r' => cur.push(b'\r'),
                    b't' => cur.push(b'\t'),
                    b'x' => {
                        let hex = line.get(i..i + 2).and_then(|h| u8::from_str_radix(h, 16).ok());
                        cur.push(hex.ok_or_else(|| err(i - 2, "'\\x' wants two hexadecimal digits"))?);
                        i += 2;
                    }
                    _ => cur.extend([b'\\', n]),
                }
            }
            b'$' if dquote.is_some() => {
                in_word = true;
                let (value, used, split) = variable(&line[i..], env).map_err(|m| err(i - 1, &m))?;
                i += used;
                if split {
                    let mut parts = value.split_whitespace().peekable();
                    while let Some(p) = parts.next() {
                        cur.extend(p.as_bytes());
                        if parts.peek().is_some() {
                            out.push(text(&mut cur));
                        }
                    }
                } else {
                    cur.extend(value.as_bytes());
                }
            }
            b'#' if dquote.is_none() => break,
            b' ' | b'\t' | b'\r' if dquote.is_none() => {
                if in_word {
                    out.push(text(&mut cur));
                    in_word = false;
                }
            }
            _ => {
                in_word = true;
                cur.push(c);
            }
        }
    }
    if let Some(at) = squote.or(dquote) {
        return Err(err(at, "unmatched quote"));
    }
    if in_word {
        out.push(text(&mut cur));
    }
    Ok(out)
}

fn text(cur: &mut Vec<u8>) -> String {
    String::from_utf8_lossy(&std::mem::take(cur)).into_owned()
}

/// What follows a `$`: `NAME`, `{NAME}`, `{NAME-default}` or `{NAME[*]}`. Value, bytes used, and whether it makes several words.
fn variable(rest: &str, env: Env<'_>) -> Result<(String, usize, bool), String> {
    let name_len = |s: &str| s.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
    if let Some(inner) = rest.strip_prefix('{') {
        let end = inner.find('}').ok_or("missing '}' after '${'")?;
        let body = &inner[..end];
        let n = name_len(body);
        let (name, tail) = body.split_at(n);
        if name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
            return Err(format!("'{body}' is not the name of an environment variable"));
        }
        let (split, tail) = tail.strip_prefix("[*]").map_or((false, tail), |t| (true, t));
        let value = match (env(name), tail.strip_prefix('-')) {
            (Some(v), _) => v,
            (None, Some(default)) => default.to_owned(),
            (None, None) if tail.is_empty() => String::new(),
            (None, None) => return Err(format!("'{body}' is not the name of an environment variable")),
        };
        return Ok((value, end + 2, split));
    }
    let n = name_len(rest);
    if n == 0 {
        return Ok(("$".to_owned(), 0, false));
    }
    Ok((env(&rest[..n]).unwrap_or_default(), n, false))
}

/// Expands `$NAME` and `${NAME}` in an address word written without quotes.
pub fn expand(word: &str, env: Env<'_>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let (value, used, _) = variable(&rest[at + 1..], env)?;
        out.push_str(&value);
        rest = &rest[at + 1 + used..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        words(line, &|n| (n == "A").then(|| "x y".to_owned())).unwrap()
    }

    #[test]
    fn words_quotes_and_escapes() {
        for (line, want) in [
            ("  a  b\tc # d", vec!["a", "b", "c"]),
            (r"a\ b \#c", vec!["a b", "#c"]),
            (r#"'a "b" $A' "c 'd' $A""#, vec![r#"a "b" $A"#, "c 'd' x y"]),
            (r"^/a\.b$ \x41", vec![r"^/a\.b$", "A"]),
            (r#""${A}" "${B-z}" "${B}" ${A}"#, vec!["x y", "z", "", "${A}"]),
            (r#"p"${A[*]}"q"#, vec!["px", "yq"]),
            ("# only", vec![]),
            (r#"a"b c"d"#, vec!["ab cd"]),
            ("a#b", vec!["a"]),
        ] {
            assert_eq!(split(line), want, "{line}");
        }
    }

    #[test]
    fn errors_point_at_the_character() {
        for (line, column) in [("a 'b", 3), ("a \"b", 3), (r"a \", 3), (r"a \xZ", 3), ("\"${A\"", 2)] {
            assert_eq!(words(line, &|_| None).unwrap_err().column, column, "{line}");
        }
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic() {
        let alphabet = ["'", "\"", "\\", "$", "{", "}", "x", " ", "#", "é", "[*]", "-"];
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut line = String::new();
            for _ in 0..8 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                line.push_str(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            let _ = words(&line, &|_| Some("v".into()));
        }
    }
}
