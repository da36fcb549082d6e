//! Ring 3: what stands in front of a stream: headers of the PROXY protocol, NetScaler's, in and out.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use support::{Origin, Proxy, ok, tandem, wait_for};
use tandem_proxy::wire::proxy;

const HEAD: &str = "global\n stats socket {dir}/admin.sock level admin\n nbthread 1\ndefaults\n mode http\n timeout client 3s\n timeout server 1s\n timeout connect 500ms\n log stdout format raw local0\n option httplog\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn pair() -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
    Some(("192.0.2.1:1111".parse().unwrap(), "192.0.2.2:80".parse().unwrap()))
}

fn start(bind: &str, rest: &str) -> (Origin, Proxy) {
    let o = Origin::start(|_| ok("x"));
    let config = format!(
        "{HEAD}frontend plain\n bind 127.0.0.1:{{port}}\n default_backend b\n\
         frontend f\n bind unix@{{dir}}/in.sock {bind}\n{rest} default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
        o.port
    );
    let p = Proxy::start(&tandem(), &config);
    (o, p)
}

/// Sends the parts one by one and reads to the end.
fn send(p: &Proxy, parts: &[&[u8]]) -> String {
    let mut s = std::os::unix::net::UnixStream::connect(p.path("in.sock")).unwrap();
    s.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    for part in parts {
        if s.write_all(part).is_err() {
            break;
        }
        std::thread::yield_now();
    }
    let mut out = Vec::new();
    let _ = s.read_to_end(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

const SHOW: &str = " tcp-request session reject if { src 192.0.2.9 }\n http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port] %[dst] %[fc_rcvd_proxy] %[fc_pp_authority] %[fc_pp_unique_id] %[fc_pp_tlv(0xe1)]\" if { fc_rcvd_proxy }\n";

#[test]
fn what_the_header_says_is_the_client() {
    let (_o, p) = start("accept-proxy", SHOW);
    let said = [(proxy::AUTHORITY, b"a.example".to_vec()), (proxy::UNIQUE_ID, b"id7".to_vec()), (0xe1, b"t".to_vec())];
    let whole = proxy::write(pair(), &said, true);
    let (a, b) = whole.split_at(20);
    for parts in [&[&whole[..], GET][..], &[&[&whole[..], GET].concat()], &[a, b, GET]] {
        let answer = send(&p, parts);
        assert!(answer.ends_with("\r\n\r\n192.0.2.1:1111 192.0.2.2 1 a.example id7 t"), "{answer}");
    }
    let answer = send(&p, &[&proxy::line(pair()), GET]);
    assert!(answer.ends_with("192.0.2.1:1111 192.0.2.2 1   "), "{answer}");
    // Rules of the session see whom the header names.
    let other = Some(("192.0.2.9:1".parse().unwrap(), "192.0.2.2:80".parse().unwrap()));
    assert_eq!(send(&p, &[&proxy::line(other), GET]), "");
}

#[test]
fn an_inherited_socket_has_addresses() {
    use std::os::fd::AsRawFd;
    let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // The child inherits it.
    nix::fcntl::fcntl(&l, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let p = Proxy::start(
        &tandem(),
        &format!(
            "{HEAD}frontend plain\n bind 127.0.0.1:{{port}}\n http-request return status 200\n\
             frontend f\n bind fd@{}\n http-request return status 200 content-type text/plain lf-string %[src] if TRUE\n",
            l.as_raw_fd()
        ),
    );
    let mut s = std::net::TcpStream::connect(l.local_addr().unwrap()).unwrap();
    s.write_all(GET).unwrap();
    let mut out = String::new();
    s.read_to_string(&mut out).unwrap();
    assert!(out.ends_with("\r\n\r\n127.0.0.1"), "{out}");
    drop(p);
}

#[test]
fn a_connection_without_its_header_ends() {
    let (_o, p) = start("accept-proxy", SHOW);
    p.drain();
    for (bad, why) in [
        (GET.to_vec(), "Received something which does not look like a PROXY protocol header"),
        (b"PROXY TCP4 1.2.3.4 5\r\n".to_vec(), "Received an invalid PROXY protocol header"),
    ] {
        assert_eq!(send(&p, &[&bad]), "");
        let line = p.line();
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn rules_may_expect_a_header() {
    let (_o, p) = start("", &format!(" tcp-request connection expect-proxy layer4 unless {{ dst_port 1 }}\n{SHOW}"));
    assert!(send(&p, &[&proxy::line(pair()), GET]).contains("192.0.2.1:1111"));
    let (_o, p) = start(
        "accept-netscaler-cip 77",
        " http-request return status 200 content-type text/plain lf-string %[src] if TRUE\n",
    );
    let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 7, 192, 0, 2, 8];
    ip.extend_from_slice(&[0, 5, 0, 80]);
    let header = [&77u32.to_be_bytes()[..], &24u32.to_be_bytes(), &ip].concat();
    assert!(send(&p, &[&header, GET]).ends_with("192.0.2.7"));
}

#[test]
fn servers_are_told_what_was_asked_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "{HEAD}frontend f\n bind 127.0.0.1:{{port}}\n unique-id-format id-%[req.hdr(x-n)]\n default_backend b\nbackend b\n \
         server s {} send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,authority set-proxy-v2-tlv-fmt(0xE1) %[str(foo)]-%ci\n",
        listener.local_addr().unwrap()
    );
    let seen = std::thread::spawn(move || {
        let mut all = Vec::new();
        for s in listener.incoming().map_while(Result::ok) {
            let (mut s, mut got) = (s, Vec::new());
            let mut buf = [0; 4096];
            while !got.ends_with(b"\r\n\r\n") {
                match s.read(&mut buf) {
                    Ok(n @ 1..) => got.extend_from_slice(&buf[..n]),
                    _ => break,
                }
            }
            let _ = s.write_all(&ok("x"));
            all.push((proxy::read(&got), got));
            if all.len() == 3 {
                break;
            }
        }
        all
    });
    let p = Proxy::start(&tandem(), &config);
    // Each request has an id of its own, so that each has a connection of its own.
    let request = |n: u32| format!("GET / HTTP/1.1\r\nHost: x\r\nX-N: {n}\r\n\r\n");
    let mut c = p.connect();
    for n in 1..=2 {
        c.write_all(request(n).as_bytes()).unwrap();
        let mut buf = [0; 4096];
        assert!(c.read(&mut buf).unwrap() > 0);
    }
    assert!(wait_for(std::time::Duration::from_secs(5), || seen.is_finished()));
    for ((read, got), id) in seen.join().unwrap().into_iter().skip(1).zip(["id-1", "id-2"]) {
        let proxy::Read::Whole(h, n) = read else { panic!("{got:?}") };
        assert!(got[n..].starts_with(b"GET / HTTP/1.1\r\n"));
        assert_eq!(h.pair.unwrap().0.ip().to_string(), "127.0.0.1");
        assert_eq!(h.tlv(0xe1), Some(&b"foo-127.0.0.1"[..]));
        assert_eq!(h.tlv(proxy::UNIQUE_ID), Some(id.as_bytes()));
        assert_eq!(h.tlv(proxy::SSL), Some(&[0; 5][..]));
        assert!(h.tlv(proxy::CRC32C).is_some() && h.tlv(proxy::AUTHORITY).is_none());
    }
}
