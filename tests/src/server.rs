//! A web server on 127.0.0.1 for tests, as small as can be: one request per connection.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// Without what follows a question mark.
    pub path: String,
    /// Name in lower case → value.
    pub headers: BTreeMap<String, String>,
    /// As long as `content-length` says.
    pub body: Vec<u8>,
}

/// Serves until the process ends, a thread per connection, and returns its address, such as `http://127.0.0.1:4711`.
///
/// # Panics
/// If there is no port left.
pub fn serve(answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let Some(request) = stream.try_clone().ok().and_then(|stream| read(&mut BufReader::new(stream))) else {
                    return;
                };
                // A client that has gone away is no failure of the server.
                let _ = answer(&request, &mut stream);
                let _ = stream.flush();
            });
        }
    });
    address
}

/// Sends status and headers (`Name: value\r\n` each) of an answer whose body has `length` bytes.
///
/// # Errors
/// If the client has gone away.
pub fn head(stream: &mut TcpStream, status: u16, headers: &str, length: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n")
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.by_ref().take(10_000).read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let path = path.split('?').next()?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}
