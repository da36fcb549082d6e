//! The dialogue that sends an alert (RFC 5321; configuration manual 3.6, `mailers`): replies in, commands out.

/// An e-mail.
#[derive(Clone, Debug)]
pub struct Mail {
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
    pub hostname: String,
    /// As RFC 5322 writes it.
    pub date: String,
    pub subject: String,
    pub text: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Send(Vec<u8>),
    Read,
    Done,
    /// The server does not want it, in its own words.
    Refused(String),
}

/// One dialogue.
pub struct Dialogue<'a> {
    mail: &'a Mail,
    step: Step,
}

/// What was said last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Helo,
    From,
    /// So many recipients.
    To(usize),
    Data,
    Content,
    Quit,
}

impl Step {
    /// The reply that it waits for.
    fn wanted(self) -> &'static [u8] {
        match self {
            Self::Nothing => b"220",
            Self::Data => b"354",
            Self::Quit => b"221",
            Self::Helo | Self::From | Self::To(_) | Self::Content => b"250",
        }
    }
}

impl<'a> Dialogue<'a> {
    pub fn new(mail: &'a Mail) -> Self {
        Self { mail, step: Step::Nothing }
    }

    /// The server has the mail: what it says of the end, or does not, changes nothing.
    pub fn is_taken(&self) -> bool {
        self.step == Step::Quit
    }

    /// Goes on with the bytes that came in; whole replies are taken off.
    pub fn go_on(&mut self, seen: &mut Vec<u8>) -> Next {
        loop {
            let Some(end) = seen.iter().position(|b| *b == b'\n') else { return Next::Read };
            let line: Vec<u8> = seen.drain(..=end).collect();
            // `220-`: there is more of it.
            if line.get(3) == Some(&b'-') && line.starts_with(self.step.wanted()) {
                continue;
            }
            if !line.starts_with(self.step.wanted()) {
                return Next::Refused(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
            }
            break;
        }
        let m = self.mail;
        let (step, bytes) = match self.step {
            Step::Nothing => (Step::Helo, format!("HELO {}\r\n", m.hostname).into_bytes()),
            Step::Helo => (Step::From, format!("MAIL FROM:<{}>\r\n", m.from).into_bytes()),
            Step::From => (Step::To(1), recipient(m, 0)),
            Step::To(n) if n < m.to.len() => (Step::To(n + 1), recipient(m, n)),
            Step::To(_) => (Step::Data, b"DATA\r\n".to_vec()),
            Step::Data => (Step::Content, m.content()),
            Step::Content => (Step::Quit, b"QUIT\r\n".to_vec()),
            Step::Quit => return Next::Done,
        };
        self.step = step;
        Next::Send(bytes)
    }
}

fn recipient(m: &Mail, n: usize) -> Vec<u8> {
    format!("RCPT TO:<{}>\r\n", m.to.get(n).map_or("", String::as_str)).into_bytes()
}

impl Mail {
    fn content(&self) -> Vec<u8> {
        // A line of its own that is a dot would end the message.
        let text = self.text.replace(['\r', '\n'], " ");
        let dot = if text.starts_with('.') { "." } else { "" };
        format!(
            "From: {}\r\nTo: {}\r\nDate: {}\r\nSubject: {}\r\n\r\n{dot}{text}\r\n\r\n.\r\n",
            self.from,
            self.to.join(", "),
            self.date,
            self.subject.replace(['\r', '\n'], " ")
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> Mail {
        Mail {
            from: "a@x".into(),
            to: vec!["b@y".into(), "c@z".into()],
            hostname: "lb".into(),
            date: "Fri, 27 Nov 2026 01:13:01 +0000 (UTC)".into(),
            subject: "[HAProxy Alert] Server b/s is DOWN".into(),
            text: "Server b/s is DOWN".into(),
        }
    }

    #[test]
    fn a_mail_is_sent_step_by_step() {
        let m = mail();
        let mut d = Dialogue::new(&m);
        let mut seen = b"220-hello\r\n220 ".to_vec();
        assert_eq!(d.go_on(&mut seen), Next::Read);
        seen.extend_from_slice(b"there\r\n");
        assert_eq!(d.go_on(&mut seen), Next::Send(b"HELO lb\r\n".to_vec()));
        for (reply, command) in [
            ("250 x\r\n", "MAIL FROM:<a@x>\r\n"),
            ("250 x\r\n", "RCPT TO:<b@y>\r\n"),
            ("250 x\r\n", "RCPT TO:<c@z>\r\n"),
            ("250 x\r\n", "DATA\r\n"),
            (
                "354 go\r\n",
                "From: a@x\r\nTo: b@y, c@z\r\nDate: Fri, 27 Nov 2026 01:13:01 +0000 (UTC)\r\nSubject: [HAProxy Alert] Server b/s is DOWN\r\n\r\nServer b/s is DOWN\r\n\r\n.\r\n",
            ),
            ("250 x\r\n", "QUIT\r\n"),
        ] {
            assert_eq!(d.go_on(&mut reply.as_bytes().to_vec()), Next::Send(command.as_bytes().to_vec()));
        }
        assert_eq!(d.go_on(&mut b"221 bye\r\n".to_vec()), Next::Done);
    }

    #[test]
    fn a_refusal_ends_it() {
        let m = mail();
        assert_eq!(Dialogue::new(&m).go_on(&mut b"554 no\r\n".to_vec()), Next::Refused("554 no".into()));
    }
}
