//! Names of headers as some applications insist on them (configuration manual, `h1-case-adjust`): changed in a finished head, where they have the same length.
use std::collections::HashMap;

/// What names are written like, by their lower-case form.
#[derive(Clone, Debug, Default)]
pub struct Cases(HashMap<Vec<u8>, Vec<u8>>);

impl Cases {
    /// `from` is in lower case, and `to` differs in nothing but case; the error says what is wrong.
    pub fn insert(&mut self, from: &str, to: &str) -> Result<(), String> {
        if from.to_ascii_lowercase() != from {
            return Err(format!("'{from}' is not in lower case"));
        }
        if !from.eq_ignore_ascii_case(to) {
            return Err(format!("'{from}' and '{to}' must not differ except their case"));
        }
        if self.0.contains_key(from.as_bytes()) {
            return Err(format!("duplicate entry '{from}'"));
        }
        self.0.insert(from.as_bytes().to_vec(), to.as_bytes().to_vec());
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Changes the names of a head that lies at the start of `bytes`; what follows its blank line is left alone.
    pub fn apply(&self, bytes: &mut [u8]) {
        let next = |from: usize, b: &[u8]| b[from..].iter().position(|c| *c == b'\n').map(|n| from + n + 1);
        let Some(mut at) = next(0, bytes) else { return };
        while let Some(end) = next(at, bytes) {
            let line = &mut bytes[at..end];
            if matches!(&*line, b"\r\n" | b"\n") {
                return;
            }
            if let Some(n) = line.iter().position(|c| *c == b':')
                && let Some(to) = self.0.get(&line[..n])
            {
                line[..n].copy_from_slice(to);
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_and_nothing_else_does() {
        let mut c = Cases::default();
        c.insert("content-length", "Content-Length").unwrap();
        c.insert("x-a", "X-A").unwrap();
        assert!(c.insert("X-B", "x-b").is_err() && c.insert("x-b", "x-c").is_err() && c.insert("x-a", "x-A").is_err());
        let mut head = b"GET /x-a: HTTP/1.1\r\nx-a: x-a: 1\r\ncontent-length: 5\r\nx-ab: 2\r\n\r\nx-a: b\r\n".to_vec();
        c.apply(&mut head);
        assert_eq!(head, b"GET /x-a: HTTP/1.1\r\nX-A: x-a: 1\r\nContent-Length: 5\r\nx-ab: 2\r\n\r\nx-a: b\r\n");
        for cut in 0..head.len() {
            c.apply(&mut head[..cut].to_vec());
        }
    }
}
