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

/// The words of one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Up to the first empty one, which marks the end of the arguments.
    pub words: Vec<String>,
    /// That one's number, counted from 0 for the keyword, and what follows it.
    pub empty: Option<(usize, Vec<String>)>,
}

/// `MAX_LINE_ARGS`
pub const MAX_WORDS: usize = 64;

/// Splits one line into words. No words mean a blank line or a comment.
pub fn words(line: &str, env: Env<'_>) -> Result<Words, LexError> {
    let mut s = Splitter { out: Vec::new(), cur: Vec::new(), in_word: false };
    s.line(line, env)?;
    let all = s.out;
    if let Some(extra) = all.get(MAX_WORDS) {
        return Err(err(0, &format!("too many words: at most {MAX_WORDS} fit on a line, and '{extra}' is one more")));
    }
    // A line that begins with an empty word is a blank one.
    if all.first().is_some_and(String::is_empty) {
        return Ok(Words::default());
    }
    let mut words = all;
    let empty = words.iter().position(String::is_empty).map(|at| {
        let behind = words.split_off(at);
        (at, behind[1..].to_vec())
    });
    Ok(Words { words, empty })
}

fn err(column: usize, message: &str) -> LexError {
    LexError { column: column + 1, message: message.to_owned() }
}

struct Splitter {
    out: Vec<String>,
    cur: Vec<u8>,
    /// A word has begun, if only with a pair of quotes.
    in_word: bool,
}

impl Splitter {
    fn end(&mut self) {
        if self.in_word {
            self.out.push(String::from_utf8_lossy(&std::mem::take(&mut self.cur)).into_owned());
            self.in_word = false;
        }
    }

    fn push(&mut self, c: u8) {
        self.cur.push(c);
        self.in_word = true;
    }

    fn line(&mut self, line: &str, env: Env<'_>) -> Result<(), LexError> {
        // A carriage return ends the line wherever it stands.
        let line = line.split('\r').next().unwrap_or_default();
        let bytes = line.as_bytes();
        if let Some(at) = bytes.iter().position(|c| *c == 0) {
            return Err(err(at, "stray NUL character: is this a text file?"));
        }
        let (mut squote, mut dquote) = (None, None);
        // In this pair of quotes a variable made words of its own, or none: the pair does not make an empty one.
        let mut expanded = false;
        let mut i = 0;
        while i < bytes.len() {
            let c = bytes[i];
            i += 1;
            match c {
                b'\'' if dquote.is_none() => match squote.take() {
                    Some(_) => self.in_word = true,
                    None => squote = Some(i - 1),
                },
                _ if squote.is_some() => self.push(c),
                b'"' => match dquote.take() {
                    Some(_) => self.in_word |= !expanded,
                    None => (dquote, expanded) = (Some(i - 1), false),
                },
                b'\\' => i = self.escape(line, i, dquote.is_some())?,
                b'$' if dquote.is_some() => {
                    let v = variable(&line[i..], env, true).map_err(|m| err(i - 1, &m))?;
                    i += v.used;
                    if v.split {
                        expanded = true;
                        self.split(&v.value);
                    } else {
                        v.value.bytes().for_each(|c| self.push(c));
                    }
                }
                b'#' if dquote.is_none() => break,
                b' ' | b'\t' | 0x0b | 0x0c if dquote.is_none() => self.end(),
                _ => self.push(c),
            }
        }
        if let Some(at) = squote.or(dquote) {
            return Err(err(at, "unmatched quote"));
        }
        self.end();
        Ok(())
    }

    /// What a backslash makes of the character at `i`; where it goes on.
    fn escape(&mut self, line: &str, i: usize, dquote: bool) -> Result<usize, LexError> {
        match line.as_bytes().get(i) {
            // Nothing follows, or a blank that parts words all the same: an ordinary character.
            None => self.push(b'\\'),
            Some(b'\t') if !dquote => {
                self.push(b'\\');
                return Ok(i);
            }
            Some(n @ (b' ' | b'\\' | b'#' | b'"' | b'\'')) => self.push(*n),
            Some(b'$') if dquote => self.push(b'$'),
            Some(b'n') => self.push(b'\n'),
            Some(b'r') => self.push(b'\r'),
            Some(b't') => self.push(b'\t'),
            Some(b'x') => {
                let hex = line.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
                match hex {
                    Some(0) => return Err(err(i - 1, "'\\x00' would end the text: no word can hold it")),
                    Some(c) => self.push(c),
                    None => return Err(err(i - 1, "'\\x' wants two hexadecimal digits")),
                }
                return Ok(i + 3);
            }
            Some(n) => {
                self.push(b'\\');
                self.push(*n);
            }
        }
        Ok(i + 1)
    }

    /// The words of `"${NAME[*]}"`; none if it is empty.
    fn split(&mut self, value: &str) {
        let blank = |c: char| c.is_ascii_whitespace() || c == '\x0b';
        for (n, part) in value.split(blank).enumerate() {
            if n > 0 {
                self.end();
            }
            part.bytes().for_each(|c| self.push(c));
        }
    }
}

struct Variable {
    value: String,
    used: usize,
    /// `[*]`: each word of the value is one of the line.
    split: bool,
}

/// What follows a `$`: `NAME`, `{NAME}`, `{NAME-default}` or `{NAME[*]}`; a name that begins with a dot is one of the parser's own.
/// `strict`: anything else is an error; else the `$` stands for itself.
fn variable(rest: &str, env: Env<'_>, strict: bool) -> Result<Variable, String> {
    let name_len = |s: &str| {
        let dot = usize::from(s.starts_with('.'));
        dot + s[dot..].bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count()
    };
    let begins = |s: &str| s.bytes().next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_' || c == b'.');
    let braced = rest.strip_prefix('{');
    let inner = braced.unwrap_or(rest);
    if !begins(inner) {
        if strict {
            return Err(
                "forbidden first character in the name of an environment variable; write '\\$' for a dollar sign"
                    .into(),
            );
        }
        return Ok(Variable { value: "$".to_owned(), used: 0, split: false });
    }
    let name = &inner[..name_len(inner)];
    let known = env(name);
    if name.starts_with('.') && known.is_none() {
        return Err(format!("there is no '{name}'; the parser's own variables are .FILE, .LINE and .SECTION"));
    }
    if braced.is_none() {
        return Ok(Variable { value: known.unwrap_or_default(), used: name.len(), split: false });
    }
    let tail = &inner[name.len()..];
    let (split, tail) = match tail.strip_prefix("[*]") {
        Some(t) => (true, t),
        None if tail.starts_with('[') => {
            return Err("only '[*]' may stand behind the name of an environment variable".into());
        }
        None => (false, tail),
    };
    let end = tail.find('}').ok_or("missing '}' after '${'")?;
    let value = match (known, tail[..end].strip_prefix('-')) {
        (Some(v), _) => v,
        (None, Some(default)) => default.to_owned(),
        (None, None) => String::new(),
    };
    if end > 0 && !tail.starts_with('-') {
        return Err("unmatched brace in the name of an environment variable".into());
    }
    let used = 1 + name.len() + if split { 3 } else { 0 } + end + 1;
    Ok(Variable { value, used, split })
}

/// Expands `$NAME` and `${NAME}` in an address word written without quotes.
pub fn expand(word: &str, env: Env<'_>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let v = variable(&rest[at + 1..], env, false)?;
        out.push_str(&v.value);
        rest = &rest[at + 1 + v.used..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        let env = |n: &str| match n {
            "A" => Some("x y".to_owned()),
            "SP" => Some(" one  two ".to_owned()),
            "E" => Some(String::new()),
            ".LINE" => Some("7".to_owned()),
            _ => None,
        };
        let w = words(line, &env).unwrap();
        assert_eq!(w.empty, None, "{line}");
        w.words
    }

    #[test]
    fn words_quotes_and_escapes() {
        for (line, want) in [
            ("  a  b\tc # d", vec!["a", "b", "c"]),
            (r"a\ b \#c", vec!["a b", "#c"]),
            (r#"'a "b" $A' "c 'd' $A""#, vec![r#"a "b" $A"#, "c 'd' x y"]),
            (r"^/a\.b$ \x41", vec![r"^/a\.b$", "A"]),
            (r#""${A}" "${B-z}" "x$B" ${A}"#, vec!["x y", "z", "x", "${A}"]),
            (r#"a "${B[*]}" b"#, vec!["a", "b"]),
            (r#"a "${E[*]}" b"#, vec!["a", "b"]),
            (r#"p"${SP[*]}"q"#, vec!["p", "one", "two", "q"]),
            (r#""${B[*]-u v}""#, vec!["u", "v"]),
            (r#""${.LINE}""#, vec!["7"]),
            (r#""\$A" \$A"#, vec!["$A", r"\$A"]),
            ("a \\", vec!["a", "\\"]),
            ("a\\\tb", vec!["a\\", "b"]),
            ("a\x0bb\x0cc", vec!["a", "b", "c"]),
            ("a b\rc", vec!["a", "b"]),
            (r#""" nothing"#, vec![]),
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
        for (line, column) in [
            ("a 'b", 3),
            ("a \"b", 3),
            (r"a \xZ", 3),
            ("\"${A\"", 2),
            ("\"x$\"", 3),
            ("\"$1\"", 2),
            ("\"$.FOO\"", 2),
            ("\"${A[x]}\"", 2),
            ("\"${A+b}\"", 2),
            ("a\0b", 2),
        ] {
            assert_eq!(words(line, &|_| None).unwrap_err().column, column, "{line}");
        }
        assert!(words(&"w ".repeat(65), &|_| None).is_err());
        assert_eq!(words(&"w ".repeat(64), &|_| None).unwrap().words.len(), 64);
    }

    #[test]
    fn an_empty_word_ends_the_arguments() {
        for line in [r#"a "" b c"#, r#"a "$U" b c"#, "a '' b c", r#"a "${U}" b c"#] {
            let w = words(line, &|_| None).unwrap();
            assert_eq!(
                (w.words, w.empty),
                (vec!["a".to_owned()], Some((1, vec!["b".to_owned(), "c".to_owned()]))),
                "{line}"
            );
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
