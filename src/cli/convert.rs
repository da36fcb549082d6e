//! `tandem convert -f haproxy.cfg -k keepalived.conf`: one file that means the same.
use super::haproxy;
use crate::base::diag::Severity;
use crate::config::load::{self, load};
use crate::config::model::VrrpModel;
use crate::config::source::{LoadArgs, Recorded};
use crate::config::{convert, source::Source};
use crate::process::loader;

/// What the one file is called while it is tried.
const NAME: &str = "converted.cfg";

/// What has no words there.
pub const VIRTUAL_SERVERS: &str = "'virtual_server' blocks have no words in the one file yet: keep the two files, or write the blocks as 'listen' sections";

pub fn run(args: &[String]) -> i32 {
    let wanted = match haproxy::load_args(args) {
        Ok(a) => a,
        Err(e) => {
            eprintln!("tandem convert: {e}");
            return 1;
        }
    };
    if wanted.haproxy.is_empty() && wanted.keepalived.is_none() {
        eprintln!("tandem convert: give the files with -f and -k");
        return 1;
    }
    let mut l = loader::run(&wanted, false);
    // A word that is not honoured is not converted either: the result would mean less.
    if l.report.has_fatal() {
        eprint!("{}", l.report.render(std::process::id(), Severity::NotYet));
        eprintln!("tandem convert: mend these first, or let 'tandem check' say more");
        return 1;
    }
    match one_file(&mut l.recorded, &wanted, &l.vrrp) {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(e) => {
            eprintln!("tandem convert: {e}");
            1
        }
    }
}

/// HAProxy's files one behind the other, then the sections for the virtual routers. What comes out is read again, and must mean the same.
pub fn one_file(src: &mut Recorded, args: &LoadArgs, vrrp: &VrrpModel) -> Result<String, String> {
    if load(src, args).0.proxies.iter().any(|p| p.virtual_server.is_some()) {
        return Err(VIRTUAL_SERVERS.to_owned());
    }
    let mut text = String::new();
    for name in load::files(src, args) {
        let bytes = src.read(&name)?;
        text.push_str(&String::from_utf8_lossy(&bytes));
        if !text.ends_with('\n') && !text.is_empty() {
            text.push('\n');
        }
    }
    if let Some(k) = &args.keepalived {
        text.push_str(&format!("\n# From {k}.\n"));
        text.push_str(convert::vrrp(vrrp)?.trim_start_matches('\n'));
    }
    src.files.insert(NAME.to_owned(), Ok(text.clone().into_bytes()));
    let again = LoadArgs { haproxy: vec![NAME.to_owned()], keepalived: None, ..args.clone() };
    let (model, report) = load(src, &again);
    if let Some(d) = report.diags.iter().find(|d| d.severity >= Severity::NotYet) {
        return Err(format!("what came out is refused, which is a defect of this program: {}", d.message));
    }
    if without_places(model.vrrp) != without_places(vrrp.clone()) {
        return Err("what came out does not mean the same, which is a defect of this program".to_owned());
    }
    Ok(text)
}

fn without_places(mut m: VrrpModel) -> VrrpModel {
    m.instances.iter_mut().for_each(|i| i.place.clear());
    m.scripts.iter_mut().for_each(|s| s.place.clear());
    m.bfds.iter_mut().for_each(|b| b.place.clear());
    m.files.iter_mut().for_each(|f| f.place.clear());
    m.processes.iter_mut().for_each(|p| p.place.clear());
    m
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn model(keepalived: &str) -> (Recorded, LoadArgs, VrrpModel) {
        let mut src = Recorded::default();
        src.files.insert(
            "/h".into(),
            Ok(b"frontend f\n bind :80\n default_backend b\n\nbackend b\n server s 10.0.0.1:80 # one\n".to_vec()),
        );
        src.files.insert("/k".into(), Ok(keepalived.as_bytes().to_vec()));
        let args = LoadArgs {
            haproxy: vec!["/h".into()],
            keepalived: Some("/k".into()),
            localpeer: "lb1".into(),
            ..LoadArgs::default()
        };
        let (m, r) = load(&mut src, &args);
        assert!(!r.has_fatal(), "{:?}\n{keepalived}", r.diags);
        (src, args, m.vrrp)
    }

    /// Numbers that look random and are the same in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % sides
        }
        fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
            of[usize::try_from(self.roll(u64::try_from(of.len()).unwrap())).unwrap()]
        }
        fn maybe(&mut self, text: &str) -> String {
            if self.roll(2) == 0 { String::new() } else { format!(" {text}\n") }
        }
    }

    /// A `keepalived.conf` that uses whatever is honoured, with odd names and commands.
    fn odd_file(seed: u64) -> String {
        let d = &mut Dice(seed * 2_654_435_761 + 1);
        let commands =
            ["\"/bin/x 'a b' $HOME\"", "/bin/y", "\"killall -0 haproxy\"", "\"sh -c \\\"exit 0\\\"\"", "\"a#b\\\\c\""];
        let mut k = String::from("global_defs {\n");
        k += &d.maybe("router_id \"lb 1\"");
        k += &d.maybe("enable_script_security");
        k += &d.maybe("script_user root");
        k += &d.maybe("dynamic_interfaces");
        let version = d.pick(&["vrrp_version 3", "vrrp_version 2", "vrrp_garp_master_delay 7"]);
        k += &d.maybe(version);
        k += "}\n";
        for s in 0..d.roll(3) {
            k += &format!("vrrp_script s{s} {{\n script {}\n", d.pick(&commands));
            k += &d.maybe("interval 3");
            k += &d.maybe("timeout 2");
            k += &d.maybe("weight -20 reverse");
            k += &d.maybe("rise 4");
            k += &d.maybe("init_fail");
            k += &d.maybe("user root root");
            k += "}\n";
        }
        let routers = 1 + d.roll(3);
        for n in 0..routers {
            let six = d.roll(3) == 0;
            k += &format!(
                "vrrp_instance {}{n} {{\n interface eth{n}\n virtual_router_id {}\n priority {}\n",
                d.pick(&["VI_", "web-", "a.b"]),
                n + 1,
                1 + d.roll(254)
            );
            k += &d.maybe("state MASTER");
            let interval = d.pick(&["advert_int 1", "advert_int 0.25", "advert_int 30"]);
            k += &d.maybe(interval);
            k += &d.maybe("authentication {\n auth_type PASS\n auth_pass s3cr#t'\n }");
            k += &d.maybe("nopreempt");
            k += &d.maybe("smtp_alert");
            k += &d.maybe("preempt_delay 3.5");
            k += &d.maybe("garp_master_refresh 60\n garp_master_repeat 2\n garp_lower_prio_delay 0");
            k += &d.maybe("v3_checksum_as_v2");
            k += &d.maybe("check_unicast_src");
            k += &d.maybe("skip_check_adv_addr");
            k += &d.maybe("track_interface {\n eth9 weight -10\n eth8\n }");
            let (one, two) = (d.pick(&commands), d.pick(&commands));
            k += &d.maybe(&format!("notify_master {one}\n notify_stop {two} root"));
            k += &if six {
                format!(" virtual_ipaddress {{\n 2001:db8::{n}/64 dev eth7\n fe80::1/64 scope link\n }}\n")
            } else {
                format!(
                    " virtual_ipaddress {{\n 10.0.{n}.1/24 brd + label eth{n}:1\n 10.0.{n}.2/32 scope host noprefixroute\n }}\n"
                )
            };
            k += &d.maybe(if six {
                "unicast_peer {\n fe80::2\n }"
            } else {
                "unicast_src_ip 10.0.0.2\n unicast_peer {\n 10.0.0.3\n 10.0.0.4\n }"
            });
            k += &d.maybe("virtual_ipaddress_excluded {\n 10.9.9.9/24 dev eth5\n 2001:db8::9/64\n }");
            k += &d.maybe(if six { "use_vmac" } else { "use_vmac vr1 02:00:00:00:01 group 7\n vmac_xmit_base" });
            k += &d.maybe(if six { "use_ipvlan vepa" } else { "use_ipvlan 10.0.0.9/24 ip1 private group 7" });
            k += &d.maybe("virtual_routes {\n 10.4.0.0/16 via 10.0.0.1 dev eth7 metric 5 mtu lock 1400 no_track\n default via fe80::1 dev eth7 table 77\n }");
            k +=
                &d.maybe("virtual_rules {\n from 10.4.0.0/16 table 77\n inet6 iif eth7 fwmark 0x10/0xff blackhole\n }");
            k += "}\n";
        }
        k
    }

    /// What comes out loads to an equal model, for files of every kind.
    #[test]
    fn what_is_converted_loads_to_the_same_model() {
        for seed in 1..400 {
            let k = odd_file(seed);
            let (mut src, args, vrrp) = model(&k);
            let text = one_file(&mut src, &args, &vrrp).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{k}"));
            assert!(text.contains("server s 10.0.0.1:80 # one\n"), "HAProxy's part is kept as it is");
        }
    }
}
