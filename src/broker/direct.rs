//! Addresses of direct reply-to, as `RabbitMQ` makes them.
//!
//! It closes the whole connection on which something is sent to one that it cannot decode, with all replies that are on their way.
//! So what it cannot have made is not sent. Its versions 3.10 to 4.2 write `amq.rabbitmq.reply-to.` + base64 of a process id +
//! `.` + base64 of a key; the id is in Erlang's
//! [external term format](https://www.erlang.org/doc/apps/erts/erl_ext_dist.html), with a hash in place of the node's name
//! (`rabbit_direct_reply_to.erl`, from 4.2 on `rabbit_volatile_queue.erl`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What all of them begin with.
pub(super) const DIRECT: &str = "amq.rabbitmq.reply-to";

const VERSION: u8 = 131;
const PID: u8 = 103;
const NEW_PID: u8 = 88;
const ATOM: u8 = 118;
const SMALL_ATOM: u8 = 119;
/// `erlang:phash2` gives no larger numbers.
const HASHES: u32 = 1 << 27;

/// Whether `RabbitMQ` would close the connection for this address, as far as that can be seen: it may still be of a node that there
/// is not. What does not have the two parts it ignores.
pub(super) fn is_forged(address: &str) -> bool {
    let Some(encoded) = address.strip_prefix(DIRECT).and_then(|rest| rest.strip_prefix('.')) else { return false };
    let mut parts = encoded.split('.').filter(|part| !part.is_empty());
    let (Some(process), Some(_key), None) = (parts.next(), parts.next(), parts.next()) else { return false };
    !STANDARD.decode(process).is_ok_and(|process| is_process(&process))
}

fn is_process(term: &[u8]) -> bool {
    let (kind, rest) = match term {
        [VERSION, kind @ (PID | NEW_PID), rest @ ..] => (*kind, rest),
        _ => return false,
    };
    let (length, rest) = match rest {
        [ATOM, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [SMALL_ATOM, length, rest @ ..] => (usize::from(*length), rest),
        _ => return false,
    };
    // Number, serial and creation; the last was a byte before Erlang 23.
    let numbers = if kind == NEW_PID { 12 } else { 9 };
    rest.split_at_checked(length).is_some_and(|(node, rest)| rest.len() == numbers && is_node(node))
}

/// `reply@` and the hash of the node's name.
fn is_node(name: &[u8]) -> bool {
    let Some(hash) = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix("reply@")) else { return false };
    hash.bytes().all(|byte| byte.is_ascii_digit()) && hash.parse::<u32>().is_ok_and(|hash| hash < HASHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(process: &[u8]) -> String {
        format!("{DIRECT}.{}.Mr8cyekNxPlBkhYyFgwzPA==", STANDARD.encode(process))
    }

    fn process(kind: u8, node: &str, numbers: usize) -> Vec<u8> {
        let length = u8::try_from(node.len()).unwrap();
        [&[VERSION, kind, ATOM, 0, length], node.as_bytes(), &vec![7; numbers]].concat()
    }

    #[test]
    fn what_rabbitmq_made_is_taken() {
        for genuine in [
            // 3.10.8
            "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA4MjIwMzU0MAAAKrEAAAAAawQuOw==.Mr8cyekNxPlBkhYyFgwzPA==",
            // 4.0.5
            "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA1NjMzOTAyOAABnuUAAAAAawQq5A==.ZAVRFgT99bsq3oQ91o6KAQ==",
            // 4.2
            "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA2ODc4MTMzNAAAcEoAAAAAaS8eQg==.ZAVRFgT99bsq3oQ91o6KAQ==",
        ] {
            assert!(!is_forged(genuine), "{genuine}");
        }
        assert!(!is_forged(&address(&process(NEW_PID, "reply@0", 12))));
        assert!(!is_forged(&address(&process(NEW_PID, "reply@134217727", 12))));
        assert!(!is_forged(&address(&process(PID, "reply@5", 9))), "before Erlang 23");
        let small = [&[VERSION, NEW_PID, SMALL_ATOM, 7], &b"reply@5"[..], &[7; 12]].concat();
        assert!(!is_forged(&address(&small)));
    }

    #[test]
    fn what_costs_no_connection_is_left_to_the_broker() {
        for harmless in ["", "answers", "amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to2.a.b"] {
            assert!(!is_forged(harmless), "{harmless}");
        }
        for rest in ["", "abc", ".", "a.", ".a", "a.b.c"] {
            assert!(!is_forged(&format!("{DIRECT}.{rest}")), "{rest}");
        }
    }

    #[test]
    fn what_rabbitmq_cannot_have_made_is_forged() {
        for rest in ["g1h2AA==.xx", "@@@@.xx", "g1h2AA5yZXBseUA4MjIwMzU0MAAAKrEAAAAAawQuOw.xx", "x.x", "g1h2AA==..xx"] {
            assert!(is_forged(&format!("{DIRECT}.{rest}")), "{rest}");
        }
        for node in
            ["", "reply", "reply@", "reply@abc", "reply@-5", "reply@+5", "reply@134217728", "rabbit@5", "reply@a@5"]
        {
            assert!(is_forged(&address(&process(NEW_PID, node, 12))), "{node}");
        }
        for (kind, numbers) in [(NEW_PID, 11), (NEW_PID, 13), (NEW_PID, 9), (PID, 12), (100, 12)] {
            assert!(is_forged(&address(&process(kind, "reply@5", numbers))), "{kind} {numbers}");
        }
        let whole = process(NEW_PID, "reply@5", 12);
        for length in 1..whole.len() {
            assert!(is_forged(&address(&whole[..length])), "{length}");
        }
    }
}
