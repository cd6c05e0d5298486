// The Runtime API's calls (contracts §1), on a connection that is kept.

using System;
using System.Globalization;
using System.IO;
using System.Net;
using System.Text;
using System.Threading;

namespace Pilotlight
{
    /// An event and its headers.
    sealed class Event
    {
        static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);
        readonly WebHeaderCollection headers;

        public Event(WebHeaderCollection headers, byte[] body)
        {
            this.headers = headers;
            Body = body;
        }

        public byte[] Body { get; private set; }

        public string Id
        {
            get { return Header("Lambda-Runtime-Aws-Request-Id"); }
        }

        public TimeSpan Remaining
        {
            get
            {
                var deadline = double.Parse(Header("Lambda-Runtime-Deadline-Ms"), CultureInfo.InvariantCulture);
                var left = Epoch.AddMilliseconds(deadline) - DateTime.UtcNow;
                return left > TimeSpan.Zero ? left : TimeSpan.Zero;
            }
        }

        /// Headers are read as bytes; what they hold is UTF-8.
        public string Header(string name)
        {
            var text = headers[name];
            return text == null ? null : Encoding.UTF8.GetString(Encoding.GetEncoding(28591).GetBytes(text));
        }
    }

    sealed class Api
    {
        readonly string root;

        public Api(string address)
        {
            root = "http://" + address + "/2018-06-01/runtime/";
            ServicePointManager.Expect100Continue = false;
            ServicePointManager.UseNagleAlgorithm = false;
        }

        /// Waits for as long as it takes.
        public Event Next()
        {
            using (var answer = (HttpWebResponse)Request("invocation/next", "GET").GetResponse())
                return new Event(answer.Headers, Read(answer));
        }

        public void Respond(string id, byte[] body)
        {
            Post("invocation/" + id + "/response", body, null);
        }

        public void Fail(string place, Exception error)
        {
            var body = Encoding.UTF8.GetBytes(Json.Write(Failure.Of(error)));
            Post(place, body, Failure.Name(error));
        }

        void Post(string place, byte[] body, string error)
        {
            var request = Request(place, "POST");
            request.ContentType = "application/json";
            if (error != null)
                request.Headers["Lambda-Runtime-Function-Error-Type"] = error;
            try
            {
                using (var stream = request.GetRequestStream())
                    stream.Write(body, 0, body.Length);
                using (var answer = (HttpWebResponse)request.GetResponse())
                    Read(answer);
            }
            catch (WebException refused)
            {
                // A refusal has told the caller already, such as that the answer is too large.
                if (refused.Response == null)
                    throw;
                refused.Response.Close();
            }
        }

        HttpWebRequest Request(string place, string method)
        {
            var request = (HttpWebRequest)WebRequest.Create(root + place);
            request.Method = method;
            request.Proxy = null;
            request.Timeout = Timeout.Infinite;
            request.ReadWriteTimeout = Timeout.Infinite;
            return request;
        }

        static byte[] Read(HttpWebResponse answer)
        {
            var body = new MemoryStream();
            using (var stream = answer.GetResponseStream())
                stream.CopyTo(body);
            return body.ToArray();
        }
    }
}
