// The context of an invocation. The function may be compiled against any version of ILambdaContext, so this is a
// proxy that implements the interface's properties by their names.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Reflection;
using System.Runtime.Remoting.Messaging;
using System.Runtime.Remoting.Proxies;

namespace Pilotlight
{
    sealed class Duck : RealProxy
    {
        readonly Func<string, object> member;

        Duck(Type type, Func<string, object> member) : base(type)
        {
            this.member = member;
        }

        public static object Context(Type type, Event given)
        {
            return new Duck(type, name => Member(name, given)).GetTransparentProxy();
        }

        public override IMessage Invoke(IMessage message)
        {
            var call = (IMethodCallMessage)message;
            var method = (MethodInfo)call.MethodBase;
            object value;
            if (method.Name.StartsWith("get_", StringComparison.Ordinal))
                value = As(method.ReturnType, member(method.Name.Substring(4)));
            else if (method.Name.StartsWith("Log", StringComparison.Ordinal) && call.ArgCount > 0)
            {
                // Log, LogLine, LogInformation and similar methods: the message is the last string.
                Console.WriteLine(call.Args.OfType<string>().LastOrDefault());
                value = null;
            }
            else
                value = method.DeclaringType == typeof(object) ? Own(method.Name) : null;
            return new ReturnMessage(value, null, 0, call.LogicalCallContext, call);
        }

        object Own(string method)
        {
            switch (method)
            {
                case "ToString": return "the context of an invocation";
                case "GetHashCode": return GetHashCode();
                case "GetType": return GetProxiedType();
                default: return false;
            }
        }

        static object Member(string name, Event given)
        {
            switch (name)
            {
                case "AwsRequestId": return given.Id;
                case "InvokedFunctionArn": return given.Header("Lambda-Runtime-Invoked-Function-Arn");
                case "TenantId": return given.Header("Lambda-Runtime-Aws-Tenant-Id");
                case "ClientContext": return Parsed(given.Header("Lambda-Runtime-Client-Context"));
                case "Identity": return Parsed(given.Header("Lambda-Runtime-Cognito-Identity"));
                case "FunctionName": return Variable("AWS_LAMBDA_FUNCTION_NAME");
                case "FunctionVersion": return Variable("AWS_LAMBDA_FUNCTION_VERSION");
                case "LogGroupName": return Variable("AWS_LAMBDA_LOG_GROUP_NAME");
                case "LogStreamName": return Variable("AWS_LAMBDA_LOG_STREAM_NAME");
                case "MemoryLimitInMB":
                    return int.Parse(Variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), CultureInfo.InvariantCulture);
                case "RemainingTime": return given.Remaining;
                case "Logger": return new Dictionary<string, object>();
                default: return null;
            }
        }

        static string Variable(string name)
        {
            return Environment.GetEnvironmentVariable(name);
        }

        static object Parsed(string header)
        {
            return header == null ? null : Json.Parse(header);
        }

        // Wraps a JSON object in an interface. Its keys are the names of the members in other spellings.
        static object As(Type type, object value)
        {
            var fields = value as Dictionary<string, object>;
            if (fields == null || !type.IsInterface)
                return value;
            if (type.IsGenericType)
                return fields.ToDictionary(field => field.Key, field => Convert.ToString(field.Value, CultureInfo.InvariantCulture));
            Func<string, object> member = name =>
            {
                name = name == "Environment" ? "env" : name;
                Func<string, string> plain = text => text.Replace("_", "").ToLowerInvariant();
                var names = new[] { plain(name), "cognito" + plain(name) };
                return fields.FirstOrDefault(field => names.Contains(plain(field.Key))).Value;
            };
            return new Duck(type, member).GetTransparentProxy();
        }
    }
}
