using System;
using System.IO;
using System.Linq;
using System.Text;
using Amazon.Lambda.Core;
using Newtonsoft.Json;

[assembly: LambdaSerializer(typeof(Shop.NewtonsoftSerializer))]

namespace Shop
{
    public class Line
    {
        [JsonProperty("article")] public string Article { get; set; }
        [JsonProperty("price")] public decimal Price { get; set; }
        [JsonProperty("count")] public int Count { get; set; }
    }

    public class Order
    {
        [JsonProperty("lines")] public Line[] Lines { get; set; }
    }

    public class Total
    {
        [JsonProperty("lines")] public int Lines { get; set; }
        [JsonProperty("total")] public decimal Sum { get; set; }
    }

    /// Events and answers by Json.NET.
    public class NewtonsoftSerializer : ILambdaSerializer
    {
        readonly JsonSerializer serializer = new JsonSerializer();

        public T Deserialize<T>(Stream requestStream)
        {
            return serializer.Deserialize<T>(new JsonTextReader(new StreamReader(requestStream)));
        }

        public void Serialize<T>(T response, Stream responseStream)
        {
            var writer = new StreamWriter(responseStream, new UTF8Encoding(false));
            serializer.Serialize(writer, response);
            writer.Flush();
        }
    }

    public class Totals
    {
        public Total Handle(Order order, ILambdaContext context)
        {
            if (order.Lines == null || order.Lines.Length == 0)
                throw new ArgumentException("lines: is missing");
            context.Logger.LogLine("lines: " + order.Lines.Length);
            return new Total { Lines = order.Lines.Length, Sum = order.Lines.Sum(line => line.Price * line.Count) };
        }
    }
}
