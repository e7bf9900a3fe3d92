//! The first bytes of a link: both ends prove that they know the sandbox's secret and agree on a
//! version, before HTTP/2 starts.
//!
//! It stands before HTTP/2, not in a first call, so that nothing of the service can be reached
//! without the proof. The messages are in `proto/skync.proto`. Neither end waits for ever: callers
//! put a deadline on the whole handshake.

use std::io;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::proto::{AgentInfo, Challenge, Greeting, Proof, Welcome};

/// Links between different majors are refused.
pub const PROTOCOL_MAJOR: u32 = 2;
/// A higher minor only adds what the other end may ignore.
pub const PROTOCOL_MINOR: u32 = 2;

/// Sent first by each end, so that a stream that carries something else is known at once.
const MAGIC: &[u8; 8] = b"SKYNC\r\n\0";
/// Longest message of the handshake, in bytes; a longer one is refused unread.
const MESSAGE_BYTES_MAX: u32 = 4096;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The stream failed or ended.
    #[error("the byte stream to the other end failed")]
    Io(#[from] io::Error),
    /// The stream carries something else; its first bytes.
    #[error("the other end does not speak skync: it said {0:?}")]
    NotSkync(String),
    /// The versions do not fit.
    #[error(
        "the agent speaks protocol {theirs}, this skync speaks {PROTOCOL_MAJOR}: they belong to \
         different releases"
    )]
    Protocol {
        /// The other end's major version.
        theirs: u32,
    },
    /// The other end does not know the secret.
    #[error("the other end could not prove that it belongs to this sandbox")]
    Secret,
    /// The agent said no, and why.
    #[error("the agent refused the link: {0}")]
    Refused(String),
    /// A message that is none.
    #[error("the other end sent a malformed message")]
    Malformed,
}

/// The session's end: greets, checks the agent's proof, proves itself, and returns what the agent
/// says of itself.
///
/// # Errors
/// [`HandshakeError::Protocol`] if the majors differ; the stream is of no use after any error.
pub async fn greet<S>(
    stream: &mut S,
    secret: &[u8; 32],
    epoch: u64,
) -> Result<AgentInfo, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let nonce = random();
    stream.write_all(MAGIC).await?;
    let greeting = Greeting {
        protocol_major: PROTOCOL_MAJOR,
        protocol_minor: PROTOCOL_MINOR,
        epoch,
        nonce: nonce.to_vec(),
    };
    send(stream, &greeting).await?;
    read_magic(stream).await?;
    let challenge: Challenge = receive(stream).await?;
    if challenge.protocol_major != PROTOCOL_MAJOR {
        return Err(HandshakeError::Protocol { theirs: challenge.protocol_major });
    }
    let expected = proof(secret, b"agent", &nonce, &challenge.nonce, epoch);
    if !same(&expected, &challenge.proof) {
        return Err(HandshakeError::Secret);
    }
    let proof = proof(secret, b"session", &challenge.nonce, &nonce, epoch).to_vec();
    send(stream, &Proof { proof }).await?;
    let welcome: Welcome = receive(stream).await?;
    match (welcome.refusal.is_empty(), welcome.agent) {
        (true, Some(agent)) => Ok(agent),
        (true, None) => Err(HandshakeError::Malformed),
        (false, _) => Err(HandshakeError::Refused(welcome.refusal)),
    }
}

/// The agent's end: answers a greeting and returns the link's epoch.
///
/// # Errors
/// As [`greet`]; a session of another major is told the agent's version first.
pub async fn answer<S>(
    stream: &mut S,
    secret: &[u8; 32],
    agent: AgentInfo,
    epoch_min: u64,
) -> Result<u64, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    read_magic(stream).await?;
    let greeting: Greeting = receive(stream).await?;
    let fits = greeting.protocol_major == PROTOCOL_MAJOR;
    let nonce = random();
    let proof_of_agent = if fits {
        proof(secret, b"agent", &greeting.nonce, &nonce, greeting.epoch).to_vec()
    } else {
        Vec::new()
    };
    stream.write_all(MAGIC).await?;
    let challenge = Challenge {
        protocol_major: PROTOCOL_MAJOR,
        protocol_minor: PROTOCOL_MINOR,
        nonce: nonce.to_vec(),
        proof: proof_of_agent,
    };
    send(stream, &challenge).await?;
    if !fits {
        return Err(HandshakeError::Protocol { theirs: greeting.protocol_major });
    }
    let given: Proof = receive(stream).await?;
    let expected = proof(secret, b"session", &nonce, &greeting.nonce, greeting.epoch);
    if !same(&expected, &given.proof) {
        return Err(HandshakeError::Secret);
    }
    if greeting.epoch < epoch_min {
        let refusal = "a newer link of the session is open".to_owned();
        send(stream, &Welcome { refusal: refusal.clone(), agent: None }).await?;
        return Err(HandshakeError::Refused(refusal));
    }
    send(stream, &Welcome { refusal: String::new(), agent: Some(agent) }).await?;
    Ok(greeting.epoch)
}

fn proof(secret: &[u8; 32], who: &[u8], first: &[u8], second: &[u8], epoch: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(who).update(first).update(second).update(&epoch.to_be_bytes());
    *hasher.finalize().as_bytes()
}

/// Compares in constant time: `blake3::Hash` does.
fn same(expected: &[u8; 32], given: &[u8]) -> bool {
    <[u8; 32]>::try_from(given)
        .is_ok_and(|given| blake3::Hash::from_bytes(*expected) == blake3::Hash::from_bytes(given))
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

async fn read_magic<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), HandshakeError> {
    let mut magic = [0; 8];
    let mut filled = 0;
    while filled < magic.len() {
        match stream.read(&mut magic[filled..]).await? {
            0 if filled == 0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            0 => break,
            count => filled += count,
        }
    }
    if &magic == MAGIC {
        return Ok(());
    }
    Err(HandshakeError::NotSkync(String::from_utf8_lossy(&magic[..filled]).into_owned()))
}

async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    message: &impl Message,
) -> Result<(), HandshakeError> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).map_err(|_| HandshakeError::Malformed)?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(())
}

async fn receive<M: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<M, HandshakeError> {
    let length = stream.read_u32().await?;
    if length > MESSAGE_BYTES_MAX {
        return Err(HandshakeError::Malformed);
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    M::decode(&*body).map_err(|_| HandshakeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn meet(
        session: [u8; 32],
        agent: [u8; 32],
        epoch: u64,
        epoch_min: u64,
    ) -> (Result<AgentInfo, HandshakeError>, Result<u64, HandshakeError>) {
        let (mut near, mut far) = tokio::io::duplex(64);
        tokio::join!(
            // The near end goes away after its part, as a session that gives up does.
            async move { greet(&mut near, &session, epoch).await },
            async move { answer(&mut far, &agent, AgentInfo::default(), epoch_min).await }
        )
    }

    #[tokio::test]
    async fn ends_that_know_the_secret_agree() {
        let (session, agent) = meet([7; 32], [7; 32], 3, 0).await;
        assert!(session.is_ok());
        assert_eq!(agent.expect("the agent accepts"), 3);
    }

    #[tokio::test]
    async fn an_agent_without_the_secret_is_refused() {
        let (session, agent) = meet([7; 32], [8; 32], 3, 0).await;
        assert!(matches!(session, Err(HandshakeError::Secret)));
        assert!(agent.is_err());
    }

    #[tokio::test]
    async fn an_older_link_is_refused_with_a_reason() {
        let (session, _) = meet([7; 32], [7; 32], 3, 4).await;
        assert!(matches!(session, Err(HandshakeError::Refused(why)) if why.contains("newer")));
    }

    #[tokio::test]
    async fn another_major_is_refused_before_any_proof() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        far.write_all(MAGIC).await.expect("written");
        let old = Challenge { protocol_major: 9, ..Challenge::default() };
        send(&mut far, &old).await.expect("written");
        let error = greet(&mut near, &[7; 32], 1).await.expect_err("refused");
        assert!(matches!(error, HandshakeError::Protocol { theirs: 9 }), "{error}");
    }

    #[tokio::test]
    async fn a_stream_that_carries_something_else_is_quoted() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        far.write_all(b"sh: not found\n").await.expect("written");
        let error = greet(&mut near, &[7; 32], 1).await.expect_err("refused");
        assert!(error.to_string().contains("sh: not"), "{error}");
    }
}
