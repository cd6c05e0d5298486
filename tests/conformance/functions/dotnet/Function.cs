// What the conformance table asks of a function, in C#.

using System;
using System.Collections;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

namespace Example
{
    public class Function
    {
        static readonly string Started = Process.GetCurrentProcess().Id + "-" + Stopwatch.GetTimestamp();
        static int calls = 0;

        public async Task<object> FunctionHandler(object given, ILambdaContext context)
        {
            calls++;
            var asked = given as Dictionary<string, object> ?? new Dictionary<string, object>();
            object what;
            asked.TryGetValue("do", out what);
            switch (what as string)
            {
                case "context": return Describe(context);
                case "surroundings":
                    var file = Path.Combine(Path.GetTempPath(), "note");
                    File.WriteAllText(file, "kept");
                    return new
                    {
                        variables = Environment.GetEnvironmentVariables(),
                        directory = Environment.CurrentDirectory,
                        kept = File.ReadAllText(file),
                    };
                case "count": return new { calls, started = Started };
                case "wait":
                    await Task.Delay(TimeSpan.FromSeconds(Convert.ToDouble(asked["seconds"])));
                    return new { started = Started };
                case "print":
                    context.Logger.LogLine((string)asked["text"]);
                    return null;
                case "raise": throw new ArgumentException("no such order: grün");
                case "unserialisable": return new Loop();
                case "size": return new string('x', Convert.ToInt32(asked["bytes"]));
                case "exit":
                    Environment.Exit(Convert.ToInt32(asked["status"]));
                    return null;
                case "memory":
                    var held = new List<byte[]>();
                    for (var i = 0; i < Convert.ToInt32(asked["mebibytes"]); i++)
                        held.Add(Enumerable.Repeat((byte)1, 1 << 20).ToArray());
                    await Task.Delay(TimeSpan.FromMinutes(15));
                    return held.Count;
                default: return given;
            }
        }

        static object Describe(ILambdaContext context)
        {
            return new
            {
                requestId = context.AwsRequestId,
                functionName = context.FunctionName,
                functionVersion = context.FunctionVersion,
                arn = context.InvokedFunctionArn,
                memory = context.MemoryLimitInMB.ToString(),
                logGroup = context.LogGroupName,
                logStream = context.LogStreamName,
                remaining = context.RemainingTime.TotalMilliseconds,
                custom = context.ClientContext == null ? null : context.ClientContext.Custom,
            };
        }

        public static Stream Other(Stream given)
        {
            return new MemoryStream(Encoding.UTF8.GetBytes("\"other\""));
        }

        class Loop
        {
            public Loop Self
            {
                get { return this; }
            }
        }
    }

    public class Broken
    {
        public Broken()
        {
            throw new InvalidOperationException("no table is configured");
        }

        public string Never()
        {
            return "never";
        }
    }
}
