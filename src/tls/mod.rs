//! TLS on rustls: what `bind ... ssl` and `server ... ssl` become. Files come through a [`Source`], so the chrooted worker opens none.
mod suites;

use crate::config::model::{BindTls, ServerTls, TlsLimits, TlsVersion};
use crate::config::source::Source;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureAlgorithm, SupportedProtocolVersion, version};
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, ServerName, UnixTime,
};
use std::collections::HashMap;
use std::sync::Arc;
pub use suites::{cipher_name, version_name};

/// Certificates by the names they are for; a name may have one for each kind of key.
#[derive(Debug, Default)]
struct Certificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// Keyed by what follows `*.`.
    wild: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
    strict: bool,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_name = |name: String| {
            self.exact.get(&name).or_else(|| name.split_once('.').and_then(|(_, base)| self.wild.get(base)))
        };
        let found = hello.server_name().and_then(|n| of_name(n.to_ascii_lowercase()));
        let usable = found.unwrap_or(&self.default);
        if found.is_none() && self.strict {
            return None;
        }
        // The first that the client can check; elliptic curves cost less, and come first.
        let offered = hello.signature_schemes();
        let fits = |k: &&Arc<CertifiedKey>| k.key.choose_scheme(offered).is_some();
        let fast = |k: &&Arc<CertifiedKey>| k.key.algorithm() != SignatureAlgorithm::RSA;
        usable.iter().filter(fits).find(fast).or_else(|| usable.iter().find(fits)).or(usable.first()).cloned()
    }
}

impl Certificates {
    /// Takes the certificates of one name of a `crt` word. Of one kind of key the first for a name counts.
    fn add(&mut self, keys: Vec<CertifiedKey>) {
        let keys: Vec<_> = keys.into_iter().map(Arc::new).collect();
        for key in &keys {
            for name in key.cert.first().map(|c| names(c)).unwrap_or_default() {
                let known = match name.strip_prefix("*.") {
                    Some(base) => self.wild.entry(base.to_owned()).or_default(),
                    None => self.exact.entry(name).or_default(),
                };
                if known.iter().all(|k| k.key.algorithm() != key.key.algorithm()) {
                    known.push(key.clone());
                }
            }
        }
        if self.default.is_empty() {
            self.default = keys;
        }
    }
}

/// DNS names a certificate is for, or its common name when it has none.
fn names(der: &[u8]) -> Vec<String> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let Ok((_, cert)) = X509Certificate::from_der(der) else { return Vec::new() };
    let mut out = Vec::new();
    if let Ok(Some(san)) = cert.subject_alternative_name() {
        for n in &san.value.general_names {
            if let GeneralName::DNSName(d) = n {
                out.push(d.to_ascii_lowercase());
            }
        }
    }
    if out.is_empty() {
        out.extend(cert.subject().iter_common_name().filter_map(|a| a.as_str().ok()).map(str::to_ascii_lowercase));
    }
    out
}

/// Reads a PEM with a chain and its key; the key may stand in `<file>.key`.
fn certified(path: &str, src: &mut dyn Source, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let pem = src.read(path)?;
    let (mut chain, mut key) = (Vec::new(), None);
    let mut take = |bytes: &[u8], certs: bool| -> Result<(), String> {
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
            let (kind, der) = section.map_err(|e| format!("not PEM: {e}"))?;
            match kind {
                SectionKind::Certificate if certs => chain.push(CertificateDer::from(der)),
                SectionKind::PrivateKey => {
                    key = key.take().or(Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der))))
                }
                SectionKind::RsaPrivateKey => {
                    key = key.take().or(Some(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der))))
                }
                SectionKind::EcPrivateKey => {
                    key = key.take().or(Some(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der))))
                }
                _ => {}
            }
        }
        Ok(())
    };
    take(&pem, true)?;
    if let Ok(extra) = src.read(&format!("{path}.key")) {
        take(&extra, false)?;
    }
    if chain.is_empty() {
        return Err("holds no certificate".into());
    }
    let key = key.ok_or("holds no private key that can be read (an encrypted one cannot); append the key, or put it into a file of the same name plus '.key'")?;
    let key = provider.key_provider.load_private_key(key).map_err(|e| e.to_string())?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err("the private key does not belong to the first certificate".to_owned())
        }
        // An old certificate (X.509 version 1) cannot be looked into; whether it is good enough is for clients to say.
        Ok(()) | Err(rustls::Error::InconsistentKeys(_)) => Ok(certified),
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_))) => Ok(certified),
        Err(e) => Err(e.to_string()),
    }
}

/// One file, or the bundle of that name: a file for each kind of key.
fn bundle(path: &str, src: &mut dyn Source, provider: &CryptoProvider) -> Result<Vec<CertifiedKey>, String> {
    let whole = src.read(path).map(|_| ());
    let Err(missing) = whole else { return certified(path, src, provider).map(|c| vec![c]) };
    let mut out = Vec::new();
    for kind in ["rsa", "ecdsa"] {
        let part = format!("{path}.{kind}");
        if src.read(&part).is_ok() {
            out.push(certified(&part, src, provider)?);
        }
    }
    if out.is_empty() { Err(missing) } else { Ok(out) }
}

fn versions(l: &TlsLimits, base: &TlsLimits) -> Result<&'static [&'static SupportedProtocolVersion], String> {
    static V12: &[&SupportedProtocolVersion] = &[&version::TLS12];
    static V13: &[&SupportedProtocolVersion] = &[&version::TLS13];
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    let min = l.min.or(base.min);
    let max = l.max.or(base.max);
    match (min, max) {
        (Some(TlsVersion::V13), Some(TlsVersion::V12)) => Err("the version limits leave no TLS version".into()),
        (Some(TlsVersion::V13), _) => Ok(V13),
        (_, Some(TlsVersion::V12)) => Ok(V12),
        _ => Ok(BOTH),
    }
}

fn provider(l: &TlsLimits, base: &TlsLimits) -> Arc<CryptoProvider> {
    let mut p = aws_lc_rs::default_provider();
    let v12 = l.ciphers.as_ref().or(base.ciphers.as_ref());
    let v13 = l.ciphersuites.as_ref().or(base.ciphersuites.as_ref());
    p.cipher_suites.retain(|s| {
        let name = cipher_name(s.suite());
        let list = if name.starts_with("TLS_") { v13 } else { v12 };
        list.is_none_or(|l| l.iter().any(|n| n == name))
    });
    Arc::new(p)
}

/// The server side of one `bind ... ssl`. `base` is `ssl-default-bind-*`, `crt_base` the directory relative names are in.
pub fn server_config(
    b: &BindTls,
    base: &TlsLimits,
    crt_base: Option<&str>,
    src: &mut dyn Source,
) -> Result<Arc<ServerConfig>, String> {
    let provider = provider(&b.limits, base);
    let mut certs = Certificates { strict: b.strict_sni, ..Certificates::default() };
    for path in &b.crt {
        let path = match crt_base {
            Some(dir) if !path.starts_with('/') => format!("{}/{path}", dir.trim_end_matches('/')),
            _ => path.clone(),
        };
        let files = match src.list(&path) {
            Some(names) => {
                let skip = [".key", ".ocsp", ".sctl", ".issuer", ".dh"];
                let files: Vec<String> = names
                    .iter()
                    .filter(|n| !n.starts_with('.') && !skip.iter().any(|s| n.ends_with(s)))
                    .map(|n| format!("{}/{n}", path.trim_end_matches('/')))
                    .collect();
                if files.is_empty() {
                    return Err(format!("directory '{path}' holds no certificate"));
                }
                files
            }
            None => vec![path],
        };
        for f in files {
            certs.add(bundle(&f, src, &provider).map_err(|e| format!("cannot use certificate '{f}' : {e}"))?);
        }
    }
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(&b.limits, base)?)
        .map_err(|e| e.to_string())?;
    let mut c = builder.with_no_client_auth().with_cert_resolver(Arc::new(certs));
    c.alpn_protocols = b.alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
    c.ignore_client_order = true;
    if b.limits.no_tickets || base.no_tickets {
        c.send_tls13_tickets = 0;
    } else {
        c.ticketer = aws_lc_rs::Ticketer::new().map_err(|e| e.to_string())?;
    }
    Ok(Arc::new(c))
}

/// Accepts any certificate (`verify none`); the handshake's signature is still checked.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain; the name is compared with `name` only if there is one (`verifyhost` or a fixed `sni`), as in HAProxy.
#[derive(Debug)]
struct ChainAndHost {
    inner: Arc<rustls::client::WebPkiServerVerifier>,
    /// The certificates of the ca-file: one that is the server's own is trusted as it stands, as OpenSSL does.
    pinned: Vec<CertificateDer<'static>>,
    name: Option<ServerName<'static>>,
}

impl ChainAndHost {
    fn valid_now(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
        use rustls::CertificateError::{BadEncoding, Expired, NotValidYet};
        let (_, c) = x509_parser::parse_x509_certificate(leaf).map_err(|_| BadEncoding)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let v = c.validity();
        if now < v.not_before.timestamp() {
            return Err(NotValidYet.into());
        }
        if now > v.not_after.timestamp() {
            return Err(Expired.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for ChainAndHost {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let name = self.name.as_ref().map_or(asked, |n| n);
        match self.inner.verify_server_cert(leaf, chain, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if self.name.is_none() =>
            {
                Ok(ServerCertVerified::assertion())
            }
            Err(e) if self.pinned.iter().any(|p| p == leaf) => {
                self.valid_now(leaf, now)?;
                match &self.name {
                    None => Ok(ServerCertVerified::assertion()),
                    Some(n) => {
                        let parsed = rustls::server::ParsedCertificate::try_from(leaf).map_err(|_| e)?;
                        rustls::client::verify_server_name(&parsed, n)?;
                        Ok(ServerCertVerified::assertion())
                    }
                }
            }
            r => r,
        }
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(m, c, d)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(m, c, d)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The client side of one `server ... ssl`.
pub fn client_config(s: &ServerTls, base: &TlsLimits, src: &mut dyn Source) -> Result<Arc<ClientConfig>, String> {
    let provider = provider(&s.limits, base);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(&s.limits, base)?)
        .map_err(|e| e.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = if s.verify {
        let path = s.ca_file.as_deref().ok_or("verify is enabled but no ca-file given")?;
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        if path == "@system-ca" {
            for dir in SYSTEM_CA {
                if let Ok(pem) = src.read(dir) {
                    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
                    break;
                }
            }
        } else {
            let pem = src.read(path).map_err(|e| format!("cannot read ca-file '{path}' : {e}"))?;
            pinned.extend(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
            roots.add_parsable_certificates(pinned.iter().cloned());
        }
        if roots.is_empty() {
            return Err(format!("ca-file '{path}' holds no certificate"));
        }
        let inner = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| e.to_string())?;
        let host = s.verify_host.clone().or(match &s.sni {
            Some(crate::config::model::SniRule::Fixed(n)) => Some(n.clone()),
            _ => None,
        });
        let name = host.map(ServerName::try_from).transpose().map_err(|e| format!("'verifyhost' : {e}"))?;
        Arc::new(ChainAndHost { inner, pinned, name })
    } else {
        Arc::new(AcceptAny(provider))
    };
    let mut c = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    c.alpn_protocols = s.alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
    c.enable_sni = s.sni.is_some();
    Ok(Arc::new(c))
}

/// Where distributions keep the system's roots.
const SYSTEM_CA: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::source::Recorded;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
    use rustls::{ClientConnection, Connection, ServerConnection, SignatureScheme};

    /// A client that can check one kind of signature only.
    #[derive(Debug)]
    struct Only(SignatureScheme, AcceptAny);

    impl ServerCertVerifier for Only {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            m: &[u8],
            c: &CertificateDer<'_>,
            d: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.1.verify_tls12_signature(m, c, d)
        }
        fn verify_tls13_signature(
            &self,
            m: &[u8],
            c: &CertificateDer<'_>,
            d: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.1.verify_tls13_signature(m, c, d)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![self.0]
        }
    }

    fn made(alg: &'static rcgen::SignatureAlgorithm, name: &str) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate_for(alg).unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        (format!("{}{}", cert.pem(), key.serialize_pem()).into_bytes(), cert.der().to_vec())
    }

    /// The certificate that a client of this kind is shown.
    fn shown(server: &Arc<ServerConfig>, scheme: SignatureScheme, name: &'static str) -> Vec<u8> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Only(scheme, AcceptAny(provider))))
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(client), name.try_into().unwrap()).unwrap();
        let mut ends: [Connection; 2] = [client.into(), ServerConnection::new(server.clone()).unwrap().into()];
        while ends[0].is_handshaking() {
            ends.reverse();
            for _ in 0..2 {
                let [from, to] = &mut ends;
                let mut wire = Vec::new();
                while from.wants_write() {
                    from.write_tls(&mut wire).unwrap();
                }
                let mut rest = &wire[..];
                while !rest.is_empty() {
                    to.read_tls(&mut rest).unwrap();
                    to.process_new_packets().unwrap();
                }
                ends.reverse();
            }
            ends.reverse();
        }
        ends[0].peer_certificates().unwrap()[0].to_vec()
    }

    #[test]
    fn of_a_bundle_each_client_is_shown_what_it_can_check() {
        // The ending says where to look, not what is there.
        let (ed, ed_der) = made(&PKCS_ED25519, "one.example");
        let (ec, ec_der) = made(&PKCS_ECDSA_P256_SHA256, "one.example");
        let (other, other_der) = made(&PKCS_ECDSA_P256_SHA256, "*.two.example");
        let mut src = Recorded::default();
        src.files.insert("/c.pem".into(), Err("no such file or directory".into()));
        src.files.insert("/c.pem.rsa".into(), Ok(ed));
        src.files.insert("/c.pem.ecdsa".into(), Ok(ec));
        src.files.insert("/d.pem".into(), Ok(other));
        let bind = BindTls { crt: vec!["/c.pem".into(), "/d.pem".into()], ..BindTls::default() };
        let c = server_config(&bind, &TlsLimits::default(), None, &mut src).unwrap();
        let (p256, ed25519) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519);
        assert_eq!(shown(&c, p256, "one.example"), ec_der);
        assert_eq!(shown(&c, ed25519, "one.example"), ed_der);
        assert_eq!(shown(&c, p256, "a.two.example"), other_der);
        // A name that nobody has gets the first bundle.
        assert_eq!(shown(&c, p256, "three.example"), ec_der);
        src.files.remove("/c.pem.rsa");
        src.files.remove("/c.pem.ecdsa");
        let e = server_config(&bind, &TlsLimits::default(), None, &mut src).unwrap_err();
        assert!(e.contains("/c.pem") && e.contains("no such file"), "{e}");
    }
}
