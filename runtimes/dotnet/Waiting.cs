// Waits in an unclaimed instance. After the claim, this process is the function's runtime process.
//
// Bootstrap.cs calls it when the command line has no handler. First it runs a rehearsal: an invocation of a
// handler in this file, through a Runtime API in this file. The rehearsal loads and compiles what a fresh process
// loads and compiles before its first answer. Then this file reads a `Begin` (operator/wire/src/prestart.rs) from
// a descriptor that runtime.toml has opened in addition to the standard ones.
//
// The claim may bring code or layers with which a fresh process would load other files than this process has
// loaded. Then this process replaces itself with a fresh one. runtime.toml names the variables that Mono and the
// C library read only once.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;

namespace Pilotlight
{
    static class Waiting
    {
        const int Descriptor = 100;
        const int BrokenPipe = 13;

        /// Returns the arguments with which a process for the function would have been started.
        public static string[] Begin()
        {
            var lookedIn = LoaderFolders();
            Rehearsal.Play();
            var text = Read();
            if (text == "")
                Environment.Exit(0);
            var told = (Dictionary<string, object>)Json.Parse(text);
            var command = Texts(told["command"]).ToArray();
            var pairs = (List<object>)told["environment"];
            var variables = pairs.Select(pair => Texts(pair).ToArray()).ToArray();
            Environment.CurrentDirectory = (string)told["taskRoot"];
            if (!Become(command, variables, lookedIn))
                Start(command, variables);
            return command.Skip(2).ToArray();
        }

        static string Read()
        {
            var all = new MemoryStream();
            var part = new byte[1 << 16];
            int length;
            while ((length = (int)read(Descriptor, part, (IntPtr)part.Length)) > 0)
                all.Write(part, 0, length);
            close(Descriptor);
            return Encoding.UTF8.GetString(all.ToArray());
        }

        static IEnumerable<string> Texts(object list)
        {
            return ((List<object>)list).Cast<string>();
        }

        /// Takes over the variables and arguments. Returns whether a fresh process would now be in the same state.
        static bool Become(string[] command, string[][] variables, Dictionary<string, string[]> lookedIn)
        {
            clearenv();
            foreach (var pair in variables)
                setenv(pair[0], pair[1], 1);
            var own = File.ReadAllText("/proc/self/cmdline").Split('\0').Take(2);
            if (!command.Take(2).SequenceEqual(own) || LibrariesCame(lookedIn) || IsHidden())
                return false;
            var arguments = command.Skip(1).ToArray();
            return mono_runtime_set_main_args(arguments.Length, arguments) == 0;
        }

        /// The state of the loader's folders as the loader may remember it: names of files, or null if absent.
        static Dictionary<string, string[]> LoaderFolders()
        {
            var folders = (Environment.GetEnvironmentVariable("LD_LIBRARY_PATH") ?? "").Split(':');
            return folders.Where(folder => folder != "").Distinct().ToDictionary(folder => folder, NamesIn);
        }

        static string[] NamesIn(string folder)
        {
            if (!Directory.Exists(folder))
                return null;
            return Directory.GetFileSystemEntries(folder).Select(Path.GetFileName).ToArray();
        }

        /// Whether the claim brought libraries that a fresh process would load. The loader never looks again for a
        /// folder that was absent, or for a library that it has loaded.
        static bool LibrariesCame(Dictionary<string, string[]> lookedIn)
        {
            var mapped = File.ReadAllLines("/proc/self/maps").Where(line => line.Contains("/"));
            var files = mapped.Select(line => line.Substring(line.LastIndexOf('/') + 1));
            var loaded = new HashSet<string>(files);
            return lookedIn.Any(folder =>
            {
                var before = folder.Value;
                var came = (NamesIn(folder.Key) ?? new string[0]).Except(before ?? new string[0]);
                Func<string, bool> matters = name => before == null ? name.Contains(".so") : loaded.Contains(name);
                return came.Any(name => name == "glibc-hwcaps" || matters(name));
            });
        }

        /// Whether the code or a layer has an assembly with the name of a loaded one.
        /// A fresh process would load that assembly.
        static bool IsHidden()
        {
            var names = AppDomain.CurrentDomain.GetAssemblies().Select(one => one.GetName().Name + ".dll");
            var places = Bootstrap.OwnPlaces();
            return names.Any(name => places.Any(place => File.Exists(Path.Combine(place, name))));
        }

        /// Replaces this process with a fresh one.
        static void Start(string[] command, string[][] variables)
        {
            // Mono ignores the signal, and the new process would inherit that.
            signal(BrokenPipe, IntPtr.Zero);
            var environment = variables.Select(pair => pair[0] + "=" + pair[1]);
            execvpe(command[0], Ended(command), Ended(environment));
            Console.Error.WriteLine(command[0] + " cannot be started: error " + Marshal.GetLastWin32Error());
            Environment.Exit(127);
        }

        /// Adds the null that ends a list in C.
        static string[] Ended(IEnumerable<string> texts)
        {
            return texts.Concat(new string[] { null }).ToArray();
        }

        // Mono's streams accept only descriptors that Mono has opened.
        [DllImport("libc")]
        static extern IntPtr read(int descriptor, byte[] part, IntPtr size);

        [DllImport("libc")]
        static extern int close(int descriptor);

        // Environment.SetEnvironmentVariable cannot set empty values and does not keep the order.
        [DllImport("libc")]
        static extern int clearenv();

        [DllImport("libc")]
        static extern int setenv(string name, string value, int overwrite);

        [DllImport("libc")]
        static extern IntPtr signal(int number, IntPtr handler);

        [DllImport("libc", SetLastError = true)]
        static extern int execvpe(string file, string[] arguments, string[] environment);

        // Sets the result of Environment.GetCommandLineArgs.
        [DllImport("__Internal")]
        static extern int mono_runtime_set_main_args(int count, string[] arguments);
    }

    /// One invocation; this class plays the client, the function and the Runtime API.
    sealed class Rehearsal
    {
        const string Next =
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: r\r\nLambda-Runtime-Deadline-Ms: 0\r\n" +
            "Lambda-Runtime-Invoked-Function-Arn: a\r\nContent-Type: application/json\r\n";
        const string Event = "{\"a\": [1, 2.5, \"b\", null, true]}";
        const string Taken = "HTTP/1.1 202 Accepted\r\n";

        public static void Play()
        {
            // Not a TcpListener, because one that stops opens another socket.
            var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            listener.Listen(1);
            var server = new Thread(() => Serve(listener));
            server.Start();
            var api = new Api(listener.LocalEndPoint.ToString());
            var assembly = Assembly.LoadFrom(Assembly.GetExecutingAssembly().Location);
            var entry = new Entry(assembly, "bootstrap", typeof(Rehearsal).FullName, "Answer");
            var given = api.Next();
            Duck.Context(typeof(IFormattable), given).ToString();
            api.Respond(given.Id, entry.Call(given));
            server.Join();
            listener.Close();
            api.Dispose();
        }

        public Dictionary<string, object> Answer(Dictionary<string, object> given)
        {
            return given;
        }

        static void Serve(Socket listener)
        {
            using (var stream = new NetworkStream(listener.Accept(), true))
            {
                Serve(stream, Next, Event);
                Serve(stream, Taken, "");
            }
        }

        static void Serve(Stream stream, string head, string body)
        {
            var text = "";
            var part = new byte[4096];
            while (!IsWhole(text))
                text += Encoding.ASCII.GetString(part, 0, stream.Read(part, 0, part.Length));
            var answer = Encoding.ASCII.GetBytes(head + "Content-Length: " + body.Length + "\r\n\r\n" + body);
            stream.Write(answer, 0, answer.Length);
        }

        static bool IsWhole(string text)
        {
            const string Mark = "Content-Length: ";
            var end = text.IndexOf("\r\n\r\n", StringComparison.Ordinal);
            if (end < 0)
                return false;
            var at = text.IndexOf(Mark, StringComparison.Ordinal);
            var length = at < 0 ? 0 : int.Parse(text.Substring(at + Mark.Length).Split('\r')[0]);
            return text.Length - end - 4 >= length;
        }
    }
}
