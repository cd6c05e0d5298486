// Makes the calls of the Runtime API (contract §1).

using System;
using System.Globalization;
using System.Text;

namespace Pilotlight
{
    /// An event and its headers.
    sealed class Event
    {
        static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);
        readonly Answer answer;

        public Event(Answer answer)
        {
            this.answer = answer;
        }

        public byte[] Body
        {
            get { return answer.Body; }
        }

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

        public string Header(string name)
        {
            return answer.Header(name);
        }
    }

    sealed class Api : IDisposable
    {
        const string Root = "/2018-06-01/runtime/";
        readonly Http http;

        public Api(string address)
        {
            http = new Http(address);
        }

        public void Dispose()
        {
            http.Dispose();
        }

        /// Waits for the next event, without a timeout.
        public Event Next()
        {
            var answer = http.Call("GET", Root + "invocation/next", "", null);
            if (answer.Status != 200)
                throw new InvalidOperationException("the Runtime API answers " + answer.Status);
            return new Event(answer);
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

        // The status is ignored: if the supervisor refuses the body, for example as too large, it answers the caller.
        void Post(string place, byte[] body, string error)
        {
            var headers = "Content-Type: application/json\r\n";
            if (error != null)
                headers += "Lambda-Runtime-Function-Error-Type: " + error + "\r\n";
            http.Call("POST", Root + place, headers, body);
        }
    }
}
