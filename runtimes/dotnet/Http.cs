// The part of HTTP/1.1 that the Runtime API needs, on one connection that stays open. .NET's own client starts a
// pool of threads, and Mono compiles it for longer than the rest of a start takes.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Net.Sockets;
using System.Text;

namespace Pilotlight
{
    sealed class Answer
    {
        public int Status;
        public readonly Dictionary<string, string> Headers =
            new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        public byte[] Body;

        /// Returns `null` if the header is absent.
        public string Header(string name)
        {
            string value;
            return Headers.TryGetValue(name, out value) ? value : null;
        }
    }

    sealed class Http : IDisposable
    {
        readonly string host;
        readonly int port;
        readonly byte[] read = new byte[1 << 16];
        int from, to;
        TcpClient client;
        NetworkStream stream;

        /// `address`: host and port. Connects at once, so that the assemblies for sockets are loaded before the
        /// function, as in a process that waited for a claim.
        public Http(string address)
        {
            var colon = address.LastIndexOf(':');
            host = address.Substring(0, colon);
            port = int.Parse(address.Substring(colon + 1), CultureInfo.InvariantCulture);
            Connect();
        }

        /// Waits for the answer without a timeout. `headers`: lines, each with its line end.
        public Answer Call(string method, string path, string headers, byte[] body)
        {
            if (client == null || IsClosed())
                Connect();
            var length = body == null ? "" : "Content-Length: " + body.Length + "\r\n";
            var head = method + " " + path + " HTTP/1.1\r\nHost: " + host + ":" + port + "\r\n";
            head += headers + length + "\r\n";
            var sent = new MemoryStream();
            sent.Write(Encoding.ASCII.GetBytes(head), 0, head.Length);
            if (body != null)
                sent.Write(body, 0, body.Length);
            var isSent = Send(sent);
            var answer = Read();
            if (!isSent || Is(answer.Header("Connection"), "close"))
                Dispose();
            return answer;
        }

        public void Dispose()
        {
            if (client != null)
                client.Close();
            client = null;
        }

        void Connect()
        {
            Dispose();
            client = new TcpClient(host, port) { NoDelay = true };
            stream = client.GetStream();
            from = to = 0;
        }

        /// The server sends nothing between answers, so a readable socket means that it has closed the connection.
        bool IsClosed()
        {
            return client.Client.Poll(0, SelectMode.SelectRead);
        }

        /// The server may refuse the request and close the connection before all of it is sent.
        bool Send(MemoryStream sent)
        {
            try
            {
                stream.Write(sent.GetBuffer(), 0, (int)sent.Length);
                return true;
            }
            catch (IOException)
            {
                return false;
            }
        }

        Answer Read()
        {
            var answer = new Answer();
            answer.Status = int.Parse(Line().Split(' ')[1], CultureInfo.InvariantCulture);
            Headers(answer.Headers);
            var length = answer.Header("Content-Length");
            if (Is(answer.Header("Transfer-Encoding"), "chunked"))
                answer.Body = Chunks();
            else
                answer.Body = Bytes(length == null ? 0 : int.Parse(length, CultureInfo.InvariantCulture));
            return answer;
        }

        static bool Is(string value, string word)
        {
            return string.Equals(value, word, StringComparison.OrdinalIgnoreCase);
        }

        void Headers(Dictionary<string, string> headers)
        {
            for (var line = Line(); line != ""; line = Line())
            {
                var colon = line.IndexOf(':');
                headers[line.Substring(0, colon)] = line.Substring(colon + 1).Trim();
            }
        }

        byte[] Chunks()
        {
            var whole = new MemoryStream();
            while (true)
            {
                var digits = Line().Split(';')[0];
                var size = int.Parse(digits, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
                if (size == 0)
                    break;
                whole.Write(Bytes(size), 0, size);
                Line();
            }
            Headers(new Dictionary<string, string>());
            return whole.ToArray();
        }

        /// Reads a line and removes its end. Headers are UTF-8.
        string Line()
        {
            var line = new MemoryStream();
            for (var next = Byte(); next != '\n'; next = Byte())
                line.WriteByte(next);
            return Encoding.UTF8.GetString(line.GetBuffer(), 0, (int)line.Length).TrimEnd('\r');
        }

        byte[] Bytes(int count)
        {
            var bytes = new byte[count];
            for (var at = 0; at < count; )
            {
                Fill();
                var part = Math.Min(count - at, to - from);
                Buffer.BlockCopy(read, from, bytes, at, part);
                from += part;
                at += part;
            }
            return bytes;
        }

        byte Byte()
        {
            Fill();
            return read[from++];
        }

        void Fill()
        {
            if (from < to)
                return;
            from = 0;
            to = stream.Read(read, 0, read.Length);
            if (to == 0)
                throw new EndOfStreamException("the Runtime API has ended the connection");
        }
    }
}
