//! What an `include` line may miss (keepalived.conf(5), `include_check`, `includea` and its like).
use super::glob;

/// Which names have to be there; the others are passed over when they are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// A name without wildcards; unreadable or absent, it is the same here.
    names: bool,
    /// At least one file for a name with wildcards.
    wild: bool,
    /// A file for each of the names that braces stand for.
    braces: bool,
}

impl Checks {
    const ALL: Self = Self { names: true, wild: true, braces: true };

    /// `include_check [[+|-]<check>]...`: without a sign they take the place of what was said before. The words that are none come back.
    pub fn say<'w>(&mut self, words: &'w [String]) -> Vec<&'w str> {
        if words.is_empty() {
            *self = Self::ALL;
        }
        let mut unknown = Vec::new();
        let mut fresh = true;
        for w in words {
            let (sign, name) = match w.as_bytes().first() {
                Some(b'+' | b'-') => w.split_at(1),
                _ => ("", w.as_str()),
            };
            if sign.is_empty() && std::mem::take(&mut fresh) {
                *self = Self::default();
            }
            match name {
                "readable" | "match" => self.names = sign != "-",
                "wildcard_match" => self.wild = sign != "-",
                "brace_match" => self.braces = sign != "-",
                _ => unknown.push(w.as_str()),
            }
        }
        unknown
    }

    /// With what the letter behind `include` asks for besides.
    pub fn and(mut self, letter: &str) -> Self {
        match letter {
            "a" => self = Self::ALL,
            "r" | "m" => self.names = true,
            "w" => self.wild = true,
            "b" => self.braces = true,
            _ => {}
        }
        self
    }

    /// True if a name of `pattern` that no file has is wanted; `branch` is what its braces came to.
    pub fn want(self, pattern: &str, branch: &str) -> bool {
        let wild = glob::is_wild(branch);
        wild && self.wild || !wild && self.names || self.braces && pattern.contains('{')
    }
}
