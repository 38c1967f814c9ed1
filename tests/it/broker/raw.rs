//! Clients that are not the broker module: lapin itself, and bare frames for what lapin would never send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub async fn connect(url: &str) -> lapin::Connection {
    lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap()
}

/// Messages in `queue` that are ready.
pub async fn depth(queue: &str) -> u32 {
    let connection = connect(&super::amqp_url()).await;
    let channel = connection.create_channel().await.unwrap();
    let options =
        lapin::options::QueueDeclareOptions { passive: true, ..lapin::options::QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), options, lapin::types::FieldTable::default()).await.unwrap();
    connection.close(200, "OK".into()).await.unwrap();
    queue.message_count()
}

/// Waits until this many messages wait in `queue`.
pub async fn until_depth(queue: &str, messages: u32) {
    super::within(&format!("{messages} messages in {queue}"), async { while depth(queue).await != messages {} }).await;
}

/// An AMQP connection with channel 1 open, on which any bytes can be sent.
pub struct Frames {
    stream: TcpStream,
}

pub fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &channel.to_be_bytes(), &long(payload), &[0xce]].concat()
}

pub fn method(class: u16, method: u16, arguments: &[u8]) -> Vec<u8> {
    [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat()
}

impl Frames {
    pub async fn connect() -> Self {
        let url = url::Url::parse(&super::amqp_url()).unwrap();
        let stream = TcpStream::connect((url.host_str().unwrap(), url.port().unwrap_or(5672))).await.unwrap();
        let mut this = Self { stream };
        this.stream.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
        this.receive().await;
        let login = format!("\0{}\0{}", url.username(), url.password().unwrap());
        let start_ok = [&long(b"")[..], &short(b"PLAIN"), &long(login.as_bytes()), &short(b"en_US")].concat();
        this.send(0, &method(10, 11, &start_ok)).await;
        this.receive().await;
        this.send(0, &method(10, 31, &[0, 8, 0, 2, 0, 0, 0, 0])).await;
        this.send(0, &method(10, 40, &[&short(b"/")[..], &[0, 0]].concat())).await;
        this.receive().await;
        this.send(1, &method(20, 10, &[0])).await;
        this.receive().await;
        this
    }

    pub async fn send(&mut self, channel: u16, payload: &[u8]) {
        self.stream.write_all(&frame(1, channel, payload)).await.unwrap();
    }

    async fn receive(&mut self) -> Vec<u8> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await.unwrap();
        let mut rest = vec![0; u32::from_be_bytes(head[3..].try_into().unwrap()) as usize + 1];
        self.stream.read_exact(&mut rest).await.unwrap();
        rest
    }

    /// Publishes with the given flags and encoded properties.
    pub async fn publish(&mut self, exchange: &str, key: &[u8], flags: u16, properties: &[u8], body: &[u8]) {
        let arguments = [&[0, 0][..], &short(exchange.as_bytes()), &short(key), &[0]].concat();
        self.send(1, &method(60, 40, &arguments)).await;
        let size = (body.len() as u64).to_be_bytes();
        let header = [&60_u16.to_be_bytes()[..], &[0, 0], &size, &flags.to_be_bytes(), properties].concat();
        self.stream.write_all(&frame(2, 1, &header)).await.unwrap();
        self.stream.write_all(&frame(3, 1, body)).await.unwrap();
    }

    /// Closes the channel, and so makes sure that everything before was accepted.
    pub async fn finish(mut self) {
        self.send(1, &method(20, 40, &[&200_u16.to_be_bytes()[..], &short(b""), &[0; 4]].concat())).await;
        let answer = self.receive().await;
        assert_eq!(&answer[..4], [0, 20, 0, 41], "the broker refused: {}", String::from_utf8_lossy(&answer));
    }
}
