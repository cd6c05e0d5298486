// The client of the Runtime API for .NET assemblies. It loads the function, passes each event to it and posts
// the answer. Handler form, context and error bodies are those of the original platform.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text;

namespace Pilotlight
{
    /// Describes an exception for the Runtime API: the error's body and its short name.
    static class Failure
    {
        const int Frames = 100;

        public static string Name(Exception error)
        {
            return error.GetType().Name;
        }

        public static Dictionary<string, object> Of(Exception error)
        {
            var trace = (error.StackTrace ?? "").Split('\n').Select(line => line.Trim());
            trace = trace.Where(line => line != "" && !line.Contains("Pilotlight."));
            var body = new Dictionary<string, object>
            {
                { "errorType", Name(error) },
                { "errorMessage", error.Message },
                { "stackTrace", trace.Take(Frames).ToArray() },
            };
            if (error.InnerException != null)
                body["cause"] = Of(error.InnerException);
            return body;
        }
    }

    static class Bootstrap
    {
        // Lazy, because a process of an unclaimed instance gets the function's variables only with the claim.
        static readonly Lazy<string> Root = new Lazy<string>(
            () => Environment.GetEnvironmentVariable("LAMBDA_TASK_ROOT") ?? Environment.CurrentDirectory);

        static int Main(string[] arguments)
        {
            var plain = new UTF8Encoding(false);
            Console.SetOut(new StreamWriter(Console.OpenStandardOutput(), plain) { AutoFlush = true });
            Console.SetError(new StreamWriter(Console.OpenStandardError(), plain) { AutoFlush = true });
            if (arguments.Length == 0)
                arguments = Waiting.Begin();
            Records.Take();
            AppDomain.CurrentDomain.AssemblyResolve += Resolve;
            var api = new Api(Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API"));
            Entry entry;
            try
            {
                entry = Entry.Load(arguments[0], Root.Value);
            }
            catch (Exception error)
            {
                Console.WriteLine(error);
                api.Fail("init/error", error);
                return 1;
            }
            while (true)
                Serve(api, entry);
        }

        static void Serve(Api api, Entry entry)
        {
            var given = api.Next();
            Environment.SetEnvironmentVariable("_X_AMZN_TRACE_ID", given.Header("Lambda-Runtime-Trace-Id"));
            byte[] answer;
            try
            {
                answer = entry.Call(given);
            }
            catch (Exception error)
            {
                Console.WriteLine(error);
                api.Fail("invocation/" + given.Id + "/error", error);
                return;
            }
            api.Respond(given.Id, answer);
        }

        /// Looks beside the function first, then in layers, then beside this program.
        static Assembly Resolve(object sender, ResolveEventArgs asked)
        {
            var file = new AssemblyName(asked.Name).Name + ".dll";
            var places = OwnPlaces().Concat(new[] { AppDomain.CurrentDomain.BaseDirectory });
            var found = places.Select(place => Path.Combine(place, file)).FirstOrDefault(File.Exists);
            return found == null ? null : Assembly.LoadFrom(found);
        }

        /// The folders that may have the function's own assemblies.
        public static IEnumerable<string> OwnPlaces()
        {
            var layers = (Environment.GetEnvironmentVariable("DOTNET_LAYERS") ?? "").Split(':');
            return new[] { Root.Value }.Concat(layers.Where(layer => layer != ""));
        }
    }
}
