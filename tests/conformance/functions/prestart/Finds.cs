// What a handler can find out about its process, for the comparison of test_prestart_dotnet.py.

using System;
using System.Collections;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Reflection;
using System.Runtime;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Threading;

namespace Finds
{
    public class Handler
    {
        static readonly string StackAtStart = Environment.StackTrace;
        static readonly string[] LoadedAtStart = Loaded();

        public object Handle(Dictionary<string, object> asked)
        {
            switch ((string)asked["do"])
            {
                case "find": return Find();
                case "draw": return Draw();
                case "kernel": return Kernel();
                case "fail": throw new ArgumentException("as it was asked to");
                case "load": return Load((string)asked["library"]);
                case "whose":
                    return Type.GetType((string)asked["type"], true).GetField("Whose").GetValue(null);
                case "places": return Places();
                case "echo": return asked;
                default: return null;
            }
        }

        static object Find()
        {
            var domain = AppDomain.CurrentDomain;
            var thread = Thread.CurrentThread;
            int workers, ports, mostWorkers, mostPorts;
            ThreadPool.GetMinThreads(out workers, out ports);
            ThreadPool.GetMaxThreads(out mostWorkers, out mostPorts);
            return new Dictionary<string, object>
            {
                { "environment", Variables() },
                { "subprocess", Printed("env") },
                { "arguments", Environment.GetCommandLineArgs() },
                { "command line", Environment.CommandLine },
                { "assemblies at start", LoadedAtStart },
                { "assemblies", Loaded() },
                { "entry", Assembly.GetEntryAssembly().Location },
                { "domain", new object[] {
                    domain.FriendlyName, domain.BaseDirectory, domain.Id, domain.IsDefaultAppDomain(),
                    domain.SetupInformation.ConfigurationFile, domain.SetupInformation.PrivateBinPath } },
                { "directory", Environment.CurrentDirectory },
                { "directory in C", File.Exists(Path.Combine(".", "Finds.dll")) },
                { "places", Places() },
                { "encodings", new object[] {
                    Encoding.Default.WebName, Console.OutputEncoding.WebName, Console.InputEncoding.WebName,
                    Console.Out.Encoding.WebName, Console.Error.Encoding.WebName } },
                { "console", new object[] {
                    Console.IsInputRedirected, Console.IsOutputRedirected, Console.In.ReadToEnd() } },
                { "descriptors", Descriptors() },
                { "status", Status(
                    "SigBlk", "SigIgn", "SigCgt", "ShdPnd", "Umask", "CapEff", "NoNewPrivs", "Seccomp") },
                { "limits", File.ReadAllText("/proc/self/limits") },
                { "name", File.ReadAllText("/proc/self/comm") },
                { "threads", Threads() },
                { "thread", new object[] {
                    thread.Name, thread.ManagedThreadId, thread.IsBackground, thread.Priority,
                    thread.IsThreadPoolThread } },
                { "thread pool", new object[] { workers, ports, mostWorkers, mostPorts } },
                { "stack at start", StackAtStart },
                { "stack", Environment.StackTrace },
                { "collector", new object[] {
                    GCSettings.IsServerGC, GCSettings.LatencyMode, GC.MaxGeneration } },
                { "machine", new object[] {
                    Environment.MachineName, Environment.UserName, Environment.OSVersion.VersionString,
                    Environment.Version.ToString(), Environment.ProcessorCount, Environment.Is64BitProcess,
                    Environment.ExitCode, Environment.HasShutdownStarted,
                    RuntimeEnvironment.GetRuntimeDirectory() } },
                { "connections", new object[] {
                    ServicePointManager.DefaultConnectionLimit, ServicePointManager.SecurityProtocol,
                    ServicePointManager.Expect100Continue, ServicePointManager.UseNagleAlgorithm,
                    ServicePointManager.MaxServicePointIdleTime, WebRequest.DefaultWebProxy == null } },
                { "handlers", Handlers(domain) },
                { "user", Status("Uid", "Gid", "Groups") },
                { "processors", Status("Cpus_allowed_list") },
                { "listeners", Trace.Listeners.Cast<TraceListener>().Select(one => one.Name).ToArray() },
                { "principal", Thread.CurrentPrincipal.Identity.Name },
                { "mapped", Mapped() },
                { "executable", Target("/proc/self/exe") },
            };
        }

        static object Mapped()
        {
            var lines = File.ReadAllLines("/proc/self/maps").Where(line => line.Contains("/"));
            var files = lines.Select(line => line.Substring(line.IndexOf('/'))).Distinct();
            var own = "." + Process.GetCurrentProcess().Id;
            return Sorted(files.Select(file => file.Replace(own, ".PID")));
        }

        static object Variables()
        {
            var all = Environment.GetEnvironmentVariables().Cast<DictionaryEntry>();
            return Sorted(all.Select(one => one.Key + "=" + one.Value));
        }

        static string[] Sorted(IEnumerable<string> texts)
        {
            return texts.OrderBy(one => one, StringComparer.Ordinal).ToArray();
        }

        static string Printed(string program)
        {
            var start = new ProcessStartInfo(program);
            start.UseShellExecute = false;
            start.RedirectStandardOutput = true;
            using (var process = Process.Start(start))
                return process.StandardOutput.ReadToEnd();
        }

        static string[] Loaded()
        {
            var all = AppDomain.CurrentDomain.GetAssemblies();
            return Sorted(all.Select(one => one.FullName + " " + one.Location));
        }

        /// What .NET makes of variables, and the variables.
        static object Places()
        {
            var kind = typeof(Environment.SpecialFolder);
            var folders = Enum.GetValues(kind).Cast<Environment.SpecialFolder>().Distinct();
            var variables = Printed("env").Split('\n').Where(one => !one.Contains("_RUNTIME_API="));
            return new Dictionary<string, object>
            {
                { "variables", variables.ToArray() },
                { "temporary", Path.GetTempPath() },
                { "folders", folders.Select(one => one + "=" + Environment.GetFolderPath(one)).ToArray() },
                { "culture", new object[] {
                    CultureInfo.CurrentCulture.Name, CultureInfo.CurrentUICulture.Name,
                    CultureInfo.InstalledUICulture.Name, CultureInfo.DefaultThreadCurrentCulture } },
                { "time zone", new object[] {
                    TimeZoneInfo.Local.Id, TimeZoneInfo.Local.BaseUtcOffset.ToString(),
                    new DateTime(0, DateTimeKind.Utc).AddYears(2000).ToLocalTime().Hour } },
            };
        }

        static object Descriptors()
        {
            var all = Directory.GetFileSystemEntries("/proc/self/fd").Select(Target);
            return Sorted(all.Where(one => one != null));
        }

        static string Target(string descriptor)
        {
            var target = new byte[4096];
            var length = (int)readlink(descriptor, target, (IntPtr)target.Length);
            if (length < 0)
                return null;  // the one that lists them, which is gone
            var text = Encoding.UTF8.GetString(target, 0, length);
            return Path.GetFileName(descriptor) + " " + text.Split('[')[0];
        }

        static object Status(params string[] names)
        {
            var lines = File.ReadAllLines("/proc/self/status");
            return lines.Where(line => names.Contains(line.Split(':')[0])).ToArray();
        }

        static object Threads()
        {
            var tasks = Directory.GetDirectories("/proc/self/task");
            var all = tasks.Select(task => File.ReadAllText(task + "/comm").Trim());
            // How many the pool has is a matter of moments.
            return Sorted(all.Distinct());
        }

        /// How many listen to each event of the domain.
        static object Handlers(AppDomain domain)
        {
            var fields = typeof(AppDomain).GetFields(BindingFlags.Instance | BindingFlags.NonPublic);
            var events = fields.Where(field => typeof(Delegate).IsAssignableFrom(field.FieldType));
            var counts = events.Select(field => Tuple.Create(field.Name, (Delegate)field.GetValue(domain)));
            Func<Delegate, int> count = one => one == null ? 0 : one.GetInvocationList().Length;
            return counts.Select(one => one.Item1 + " " + count(one.Item2)).ToArray();
        }

        static object Draw()
        {
            var bytes = new byte[8];
            RandomNumberGenerator.Create().GetBytes(bytes);
            return new
            {
                guid = Guid.NewGuid().ToString(),
                bytes = Convert.ToBase64String(bytes),
                process = Process.GetCurrentProcess().Id,
                random = new Random().NextDouble(),
                name = Path.GetRandomFileName(),
            };
        }

        static object Kernel()
        {
            return new
            {
                cmdline = File.ReadAllText("/proc/self/cmdline").TrimEnd('\0').Split('\0'),
                environ = Sorted(File.ReadAllText("/proc/self/environ").Split('\0')),
            };
        }

        static object Load(string library)
        {
            if (dlopen(library, 1) == IntPtr.Zero)
                throw new DllNotFoundException(library);
            var line = File.ReadAllLines("/proc/self/maps").First(one => one.EndsWith("/" + library));
            return string.Join("/", line.Split('/').Reverse().Skip(1).Take(2).Reverse());
        }

        [DllImport("libc")]
        static extern IntPtr readlink(string path, byte[] target, IntPtr size);

        [DllImport("libdl.so.2")]
        static extern IntPtr dlopen(string name, int flags);
    }
}
