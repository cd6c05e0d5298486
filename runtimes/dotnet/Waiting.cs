// Waits in an unclaimed instance; from the claim on this process is the function's.
//
// Bootstrap.cs asks for it when it is told no handler. What a fresh process loads and compiles until its
// first answer is loaded and compiled by a rehearsal: an invocation of a handler in this file, through a
// Runtime API in this file. Then it reads a `Begin` (operator/wire/src/prestart.rs) from a descriptor that
// runtime.toml has put beside the standard ones.
//
// A process that starts only now might find something else than this one found, by code or layers that
// came with the claim. Then it starts that process in its own place. runtime.toml names the variables that
// Mono and the C library read once.

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

        /// The arguments that a process for the function would have been started with.
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

        /// Whether all is now as in a process that starts so.
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

        /// What the loader may know of its folders: names, or that there is no such folder.
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

        /// The loader looks no more for a folder that it has missed, nor for what it has loaded.
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

        /// Whether code or a layer has an assembly by the name of one that is loaded.
        static bool IsHidden()
        {
            var names = AppDomain.CurrentDomain.GetAssemblies().Select(one => one.GetName().Name + ".dll");
            var places = Bootstrap.OwnPlaces();
            return names.Any(name => places.Any(place => File.Exists(Path.Combine(place, name))));
        }

        /// Another process in the place of this one.
        static void Start(string[] command, string[][] variables)
        {
            // Mono ignores it, and a new process would inherit that.
            signal(BrokenPipe, IntPtr.Zero);
            var environment = variables.Select(pair => pair[0] + "=" + pair[1]);
            execvpe(command[0], Ended(command), Ended(environment));
            Console.Error.WriteLine(command[0] + " cannot be started: error " + Marshal.GetLastWin32Error());
            Environment.Exit(127);
        }

        /// As C has lists.
        static string[] Ended(IEnumerable<string> texts)
        {
            return texts.Concat(new string[] { null }).ToArray();
        }

        // Mono's streams take only descriptors that Mono has opened.
        [DllImport("libc")]
        static extern IntPtr read(int descriptor, byte[] part, IntPtr size);

        [DllImport("libc")]
        static extern int close(int descriptor);

        // Environment.SetEnvironmentVariable knows no empty values and keeps no order.
        [DllImport("libc")]
        static extern int clearenv();

        [DllImport("libc")]
        static extern int setenv(string name, string value, int overwrite);

        [DllImport("libc")]
        static extern IntPtr signal(int number, IntPtr handler);

        [DllImport("libc", SetLastError = true)]
        static extern int execvpe(string file, string[] arguments, string[] environment);

        // What Environment.GetCommandLineArgs tells.
        [DllImport("__Internal")]
        static extern int mono_runtime_set_main_args(int count, string[] arguments);
    }

    /// One invocation, from the client's side and from the API's.
    sealed class Rehearsal
    {
        const string Next =
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: r\r\nLambda-Runtime-Deadline-Ms: 0\r\n" +
            "Lambda-Runtime-Invoked-Function-Arn: a\r\nContent-Type: application/json\r\n";
        const string Event = "{\"a\": [1, 2.5, \"b\", null, true]}";
        const string Taken = "HTTP/1.1 202 Accepted\r\n";

        public static void Play()
        {
            // A TcpListener that stops makes another socket.
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
