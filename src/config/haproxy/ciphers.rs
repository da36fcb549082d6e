//! OpenSSL's cipher strings (ciphers(1)): which of the suites that this TLS library has are meant.

/// OpenSSL names of the TLS 1.2 suites that rustls has, in the order of their preference. All agree on keys by ECDHE and are AEADs.
pub const TLS12_SUITES: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// What a string comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    pub suites: Vec<&'static str>,
    /// Suites named one by one that this library does not have.
    pub missing: Vec<String>,
    /// Words that mean nothing to OpenSSL either.
    pub unknown: Vec<String>,
}

/// Evaluates a cipher string: elements parted by colons (or commas, or blanks); `A+B` is what both have; `!` removes for good, `-` until named again, `+` moves to the end.
pub fn choose(text: &str) -> Chosen {
    let mut c = Chosen::default();
    let mut killed: Vec<&'static str> = Vec::new();
    for element in text.split([':', ',', ' ']).filter(|e| !e.is_empty() && !e.starts_with('@')) {
        let (op, atoms) = match element.split_at_checked(1) {
            Some((op @ ("!" | "-" | "+"), rest)) => (op, rest),
            _ => ("", element),
        };
        let mut set: Vec<&'static str> = TLS12_SUITES.to_vec();
        for atom in atoms.split('+') {
            match group(atom) {
                Some(test) => set.retain(|s| test(s)),
                None if TLS12_SUITES.contains(&atom) => set.retain(|s| *s == atom),
                None => {
                    set.clear();
                    if NONE_HERE.contains(&atom) {
                    } else if op.is_empty() && atom.contains('-') {
                        c.missing.push(atom.to_owned());
                    } else if op.is_empty() {
                        c.unknown.push(atom.to_owned());
                    }
                }
            }
        }
        match op {
            "!" => {
                c.suites.retain(|s| !set.contains(s));
                killed.extend(set);
            }
            "-" => c.suites.retain(|s| !set.contains(s)),
            "+" => {
                let (moved, mut rest): (Vec<_>, Vec<_>) = c.suites.iter().partition(|s| set.contains(*s));
                rest.extend(moved);
                c.suites = rest;
            }
            _ => {
                for s in set {
                    if !c.suites.contains(&s) && !killed.contains(&s) {
                        c.suites.push(s);
                    }
                }
            }
        }
    }
    c
}

/// What a group's name asks of a suite, if any suite here can have it.
fn group(name: &str) -> Option<fn(&str) -> bool> {
    Some(match name {
        "ALL" | "DEFAULT" | "HIGH" | "PROFILE=SYSTEM" | "PROFILE=DEFAULT" | "SYSTEM" | "ECDHE" | "EECDH" | "kECDHE"
        | "kEECDH" | "ECDH" | "kECDH" | "TLSv1.2" => |_| true,
        "ECDSA" | "aECDSA" => |s| s.contains("-ECDSA-"),
        "aRSA" => |s| s.contains("-RSA-"),
        "AES" | "AESGCM" | "FIPS" => |s| s.contains("AES"),
        "AES128" => |s| s.contains("AES128"),
        "AES256" => |s| s.contains("AES256"),
        "CHACHA20" => |s| s.contains("CHACHA20"),
        _ => return None,
    })
}

/// Groups of OpenSSL of which this library has no suite.
const NONE_HERE: &[&str] = &[
    "COMPLEMENTOFDEFAULT",
    "COMPLEMENTOFALL",
    "MEDIUM",
    "LOW",
    "EXP",
    "EXPORT",
    "EXPORT40",
    "EXPORT56",
    "eNULL",
    "NULL",
    "aNULL",
    "kRSA",
    "RSA",
    "DH",
    "DHE",
    "EDH",
    "kDHE",
    "kEDH",
    "kDH",
    "kDHr",
    "kDHd",
    "ADH",
    "AECDH",
    "aDSS",
    "DSS",
    "aDH",
    "SSLv2",
    "SSLv3",
    "TLSv1",
    "TLSv1.0",
    "AESCCM",
    "AESCCM8",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "3DES",
    "DES",
    "RC4",
    "RC2",
    "IDEA",
    "SEED",
    "MD5",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA384",
    "PSK",
    "kPSK",
    "kECDHEPSK",
    "kDHEPSK",
    "kRSAPSK",
    "aPSK",
    "SRP",
    "kSRP",
    "aSRP",
    "GOST",
    "aGOST",
    "CBC",
    "aECDH",
    "kECDHr",
    "kECDHe",
    "kKRB5",
    "KRB5",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_operators() {
        let all = TLS12_SUITES.len();
        let n = |t: &str| choose(t).suites.len();
        assert_eq!(
            n("ECDH+AESGCM:DH+AESGCM:ECDH+AES256:DH+AES256:ECDH+AES128:DH+AES:RSA+AESGCM:RSA+AES:!aNULL:!MD5:!DSS"),
            4
        );
        assert_eq!(n("PROFILE=SYSTEM"), all);
        assert_eq!(n("AES256+EECDH:AES256+EDH"), 2);
        assert_eq!(n("HIGH:!aRSA"), 3);
        assert_eq!(n("ALL:-CHACHA20:CHACHA20:!ECDSA"), 3);
        assert_eq!(n("kRSA:DHE"), 0);
        let c = choose("ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=1:nonsense");
        assert_eq!(
            (c.suites, c.missing, c.unknown),
            (
                vec!["ECDHE-RSA-AES128-GCM-SHA256"],
                vec!["DHE-RSA-AES128-GCM-SHA256".to_owned()],
                vec!["nonsense".to_owned()]
            )
        );
        assert_eq!(choose("ALL:+ECDSA").suites[0], "ECDHE-RSA-AES128-GCM-SHA256");
    }
}
