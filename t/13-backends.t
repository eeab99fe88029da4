# FcgiBackend is checked at startup; an address is one backend wherever it is.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;
use Time::HiRes qw(time);

my $HEAD = "Content-Type: text/plain\r\n\r\n";

# (whether it passes, what it says) of a configuration.
sub configtest {
    my ($config) = @_;
    my ($status, $output) = Httpd->configtest(modules => [qw(rewrite)],
                                              config => $config);
    return ($status == 0, $output);
}

sub accepted {
    my ($config, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($passes, $output) = configtest($config);
    return ok($passes, $name // $config) || diag $output;
}

# Refused for all of @words, with the file and the line. That is the one with
# "# here" before it, or the first.
sub refused {
    my ($config, @words) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $dir = Private::temp_dir('conf');
    my $path = Private::spew("$dir/some.conf", "$config\n");
    my ($before) = $config =~ /\A(.*?^# here\n)/ms;
    my $line = 1 + (($before // '') =~ tr/\n//);
    my ($passes, $output) = configtest("Include $path");
    ok(!$passes, $config =~ s/\n/ | /gr);
    like($output, qr/Syntax error on (?:FCGI20: )?line $line of \Q$path\E:/,
         "line $line of the file") or return;
    like($output, $_, 'with the reason') for @words;
    return;
}

# key => [what is right], [what is wrong], what is wanted
my @times = ([qw(1 5 500ms 1ms 2min 1h 30s)],
             ['', qw(0 0ms -1 abc 5x ms 1.5 off +5)],
             qr/a time(?: above zero|, a number and ms, s, min or h)/);
my %keys = (
    max => [[qw(1 5 65535)], ['', qw(0 -1 65536 1x x 1.5 0x10 +1
                                     99999999999999999999)],
            qr/a number/],
    queue => [[qw(0 1 65535)], ['', qw(-1 x 1x 65536 99999999 65536000000)],
              qr/a number/],
    'queue-timeout' => [@times],
    keepalive => [[qw(0 1 5)], ['', qw(-1 65536 x 1x 1s on)], qr/a number/],
    idle => [@times],
    requests => [[qw(1 500 2147483647)],
                 ['', qw(0 -1 x 1k 2147483648 99999999999999999999)],
                 qr/a number/],
    lifetime => [@times],
    ttl => [@times],
);

for my $key (sort keys %keys) {
    subtest "$key=" => sub {
        my ($right, $wrong, $wanted) = @{ $keys{$key} };
        my $max = $key eq 'max' ? '' : 'max=10';
        accepted("FcgiBackend /a $max $key=$_") for @$right;
        accepted("FcgiBackend name /a $max " . uc($key) . "=$right->[0]");
        refused("FcgiBackend /a $max $key=$_",
                qr/^FcgiBackend: '\Q$key=$_\E' is not $wanted/m)
            for @$wrong;
        refused("FcgiBackend /a $max $key=$right->[0] $key=$right->[1]",
                qr/'\Q$key=$right->[1]\E': .* says otherwise/);
        accepted("FcgiBackend /a $max $key=$right->[0] $key=$right->[0]");
    };
}

subtest 'what there is to write' => sub {
    accepted("FcgiBackend $_") for
        '/run/app.sock', 'unix:/run/app.sock', 'fcgi:/run/app.sock',
        'localhost:9000', 'fcgi:localhost:9000', '[::1]:9000',
        'app /run/app.sock', 'a-b_c.d9 localhost:9000', 'app "/with space"',
        'app fcgi://localhost:9000', 'app /a max=3 queue=4 queue-timeout=5 '
        . 'keepalive=3 idle=6 requests=7 lifetime=9 ttl=8';
    refused('FcgiBackend', qr/write \[name\] address \[key=value...\]/);
    refused("FcgiBackend /a $_", qr/'$_': there is max=, queue=, queue-time/)
        for qw(min=1 maxx=1 ma=1 =1 queue_timeout=1 name=x);
    refused("FcgiBackend /a $_", qr{'\Q$_\E' is not key=value})
        for qw(max keepalive /b localhost:9000);
    refused("FcgiBackend $_", qr{names no port}) for 'app', 'localhost';
    refused('FcgiBackend app localhost', qr/'localhost' names no port/);
    refused('FcgiBackend app', qr/'app' names no port/);
    refused('FcgiBackend app localhost:0', qr/'0' is not a port/);
    refused('FcgiBackend app unix:a', qr/'a' is not the absolute path/);
    refused('FcgiBackend app /' . 'x' x 108, qr/use a shorter path/);
    refused("FcgiBackend '$_' /a", qr/'\Q$_\E' is not a name; write letters/)
        for '9app', '-app', '_app', '.app', 'a!', 'a b', 'a%', 'a=b';
};

subtest 'keys that need each other' => sub {
    refused("FcgiBackend /a $_", qr/FCGI20: .*queue= and queue-timeout= need/)
        for 'queue=5', 'queue-timeout=5', 'keepalive=1 queue=5';
    refused('FcgiBackend /a max=2 keepalive=3',
            qr/FCGI20: .*keepalive= is more than max=/);
    refused("FcgiBackend /a max=2\n# here\nFcgiBackend /a keepalive=3",
            qr/keepalive= is more than max=/);
    refused("FcgiBackend /b max=2\n# here\nFcgiBackend /a queue=3",
            qr/need a max=/);
    accepted('FcgiBackend /a max=3 keepalive=3');
    accepted("FcgiBackend /a queue=3\nFcgiBackend /a max=3", 'in any order');
    accepted("<VirtualHost *>\nFcgiBackend /a queue=3\n</VirtualHost>\n"
             . 'FcgiBackend /a max=3', 'and anywhere');
};

my $real = Private::temp_dir('real');
mkdir "$real/dir", 0755;
symlink "$real/dir", "$real/link";

# Two spellings of one address.
my @same = (
    ['/a/b', 'unix:/a/b'], ['/a/b', 'fcgi:/a/b'], ['/a/b', 'fcgi:///a/b'],
    ['/a/b', '/a/./b'], ['/a/b', '/a//b'],
    ['LocalHost:9000', 'localhost:9000'],
    ['localhost:9000', 'fcgi://localhost:9000'],
    ['localhost:9000', 'localhost:09000'],
    ['[::1]:9000', '[0:0:0:0:0:0:0:1]:9000'],
    ['[2001:db8::1]:9000', '[2001:DB8:0::1]:9000'],
    ['127.0.0.1:9000', '127.000.000.001:9000'],
    ['127.0.0.1:9000', '127.1:9000'],
    ["$real/dir/a", "$real/link/a"], ["$real/link/a", "$real/dir/a"],
);

# Two that are not.
my @differ = (
    ['/a/b', '/a/B'], ['/a/b', '/a/b/c'], ['localhost:9000', '[::1]:9000'],
    ['[fe80::1%lo]:9000', '[fe80::1%eth0]:9000'],
    ['localhost:9000', 'localhost:9001'], ["$real/dir/a", "$real/dir/b"],
);

subtest 'the same address said twice' => sub {
    for my $pair (@same) {
        my ($first, $second) = @$pair;
        refused("FcgiBackend $first max=2\n# here\n"
                . "FcgiBackend $second max=3",
                qr/'max=3': line 1 of \S+ says otherwise of the same/);
        accepted("FcgiBackend $first max=2\nFcgiBackend $second max=2 "
                 . 'keepalive=1', "$first, $second: the same twice");
        accepted("FcgiBackend one $first\nFcgiBackend one $second",
                 'and one name');
        accepted("FcgiBackend one $first\nFcgiBackend two $second",
                 'or two');
    }
    accepted("FcgiBackend $_->[0] max=2\nFcgiBackend $_->[1] max=3",
             "$_->[0] and $_->[1] differ") for @differ;
    refused("<VirtualHost *:1>\nFcgiBackend /a idle=5\n</VirtualHost>\n"
            . "<VirtualHost *:2>\n# here\nFcgiBackend /a idle=6\n"
            . '</VirtualHost>', qr/'idle=6': line 2 of \S+ says otherwise/);
    accepted("FcgiBackend /a idle=60\nFcgiBackend /a idle=1min",
             'a time in other words');
};

subtest 'a name is of one address' => sub {
    for my $pair (@differ) {
        refused("FcgiBackend app $pair->[0]\n# here\n"
                . "FcgiBackend $_ $pair->[1]",
                qr/'$_' is the name of fcgi:\Q$pair->[0]\E already/)
            for qw(app APP);
    }
};

my %ways = (
    SetHandler => 'SetHandler NAME', AddHandler => 'AddHandler NAME .x',
    RewriteRule => 'RewriteRule x - [H=NAME]',
    Location => "<Location /x>\n# here\nSetHandler NAME\n</Location>",
    VirtualHost => "<VirtualHost *>\n# here\nAddHandler NAME .x\n"
        . '</VirtualHost>',
);

subtest 'the use of a name' => sub {
    for my $way (sort keys %ways) {
        for my $name (qw(app APP aPp)) {
            my $use = $ways{$way} =~ s/NAME/fcgi:$name/r;
            accepted("FcgiBackend $_ /a\n$use", "$way $name: $_ declared")
                for qw(app App);
            accepted("$use\nFcgiBackend app /a", 'after it');
            accepted("$use\n<VirtualHost *:9>\nFcgiBackend app /a\n"
                     . '</VirtualHost>', 'in a virtual host');
            refused($use, qr/'$name' names no port|\Q$name\E.*FcgiBackend/);
            refused("$use\nFcgiBackend apple /a\nFcgiBackend ap /b",
                    qr/FCGI20: .*\Q$name\E/);
        }
    }
};

subtest 'where it may stand' => sub {
    for my $section ('Directory /x', 'Location /x', 'Files x', 'If true') {
        my $end = $section =~ s/ .*//r;
        refused("<$section>\n# here\nFcgiBackend app /a\n</$end>",
                qr/FcgiBackend (?:not allowed|cannot occur)/);
    }
    accepted("<IfModule mime_module>\nFcgiBackend app /a\n</IfModule>");
    accepted("<VirtualHost *>\nFcgiBackend app /a\n</VirtualHost>");
    my $httpd = Httpd->start(files => {
        'a/a.txt' => 'text', 'a/.htaccess' => 'FcgiBackend app /a',
        'b/a.txt' => 'text', 'b/.htaccess' => 'FcgiRetry Off' });
    is(Client->get($httpd->port, "/$_/a.txt")->status, 500,
       "$_: not in .htaccess") for qw(a b);
    like($httpd->error_log, qr/\.htaccess: Fcgi$_ not allowed here/,
         'says the log') for qw(Backend Retry);
    $httpd->leave;
};

subtest 'FcgiRetry' => sub {
    accepted("FcgiRetry $_") for qw(Safe Off safe OFF), 'Safe 1s',
        'safe 500ms', 'Safe 2', 'Safe 1min';
    refused("FcgiRetry $_", qr/FcgiRetry: '\Q$_\E' is not Safe or Off/)
        for qw(On yes 1 all safes);
    refused('FcgiRetry', qr/FcgiRetry takes 1-2 arguments/);
    refused('FcgiRetry Safe 1 2', qr/FcgiRetry takes 1-2 arguments/);
    refused("FcgiRetry Safe $_", qr/FcgiRetry: '$_' is not a time above zero/)
        for qw(Off 0 -1 1x ms 1.5);
    refused("FcgiRetry $_", qr/FcgiRetry: Off stands alone/)
        for 'Off 1s', 'off Safe';
    accepted("<$_>\nFcgiRetry Off\n</" . s/ .*//r . '>', "in $_")
        for 'Directory /x', 'Location /x', 'Files x', 'If true',
            'VirtualHost *';
};

# ---- live ----

subtest 'the log says at startup what was understood' => sub {
    my $dir = Private::temp_dir('said');
    mkdir "$dir/folder", 0755;
    symlink "$dir/folder", "$dir/link";
    my $httpd = Httpd->start(
        log_level => 'warn', vars => { DIR => $dir }, config => <<'EOC');
FcgiBackend shop @DIR@/folder/shop.sock max=3 keepalive=2 idle=5
FcgiBackend 127.0.0.1:9
AddHandler fcgi:shop .shop
AddHandler fcgi:@DIR@/link/shop.sock .link
AddHandler fcgi:@DIR@/folder/other.sock .other
EOC
    my @said = sort $httpd->error_log =~ /FCGI26: backend fcgi:(.*)/g;
    is_deeply(\@said, [sort(
        "$dir/folder/shop.sock named shop max=3 queue=100"
        . ' queue-timeout=10000ms keepalive=2 idle=5000ms',
        '127.0.0.1:9 ttl=60000ms', "$dir/folder/other.sock")],
        'a line for each, at any LogLevel');
    $httpd->leave;
};

sub tell {
    my ($c) = @_;
    my $request = $c->read_request(30) or return;
    my $uri = $request->{params}{REQUEST_URI};
    $c->report(asked => { uri => $uri, at => time });
    $c->stdout($HEAD);
    if ($uri =~ m{^/\w+/held}) {
        $c->stdout('begun ');
        $c->wait_release($uri, 20);
    }
    $c->stdout($uri);
    return $c->end;
}

# Each of these requests needs a child of its own.
my $MPM = Httpd::mpm() eq 'prefork' ? <<'EOC' : undef;
StartServers 6
ServerLimit 6
MinSpareServers 1
MaxSpareServers 6
MaxRequestWorkers 6
EOC

my $dir = Private::temp_dir('names');
mkdir "$dir/Real", 0755;
symlink "$dir/Real", "$dir/link";
my $app = FcgiApp->start(\&tell, workers => 6, transport => 'unix',
                         socket => "$dir/Real/app.sock");
my $port = Private::reserve_port();

my $httpd = Httpd->start(
    mpm => $MPM, modules => [qw(rewrite)],
    files => {
        map({ ("$_/a.x" => '', "$_/b.x" => '') } qw(mime rewrite)),
        'ht/a.x' => '', 'ht/.htaccess' => "SetHandler fcgi:Named\n",
        'ht2/a.x' => '', 'ht2/.htaccess' => "AddHandler fcgi:named .x\n",
    },
    vars => { LINK => "$dir/link/app.sock", SOCKET => "$dir/Real/app.sock",
              OTHER => $port->sockport },
    config => <<'EOC');
<Location /set>
  SetHandler fcgi:NAMED
</Location>
<Location /expr>
  SetHandler "fcgi:%{HTTP:X-Name}"
</Location>
<Location /address>
  SetHandler fcgi:@SOCKET@
</Location>
<Directory @DOCROOT@/mime>
  AddHandler fcgi:Named .x
</Directory>
RewriteEngine On
RewriteRule ^/rewrite/ - [H=fcgi:Named]
FcgiBackend Named @SOCKET@ max=1
FcgiAllow Named
Listen 127.0.0.1:@OTHER@
<VirtualHost 127.0.0.1:@OTHER@>
  DocumentRoot @DOCROOT@
  <Location /link>
    SetHandler fcgi:@LINK@
  </Location>
  <Location /unix>
    SetHandler fcgi:unix:@SOCKET@
  </Location>
</VirtualHost>
EOC

my %url = (
    '/set/a' => $httpd->port, '/expr/a' => $httpd->port,
    '/address/a' => $httpd->port, '/mime/a.x' => $httpd->port,
    '/rewrite/a.x' => $httpd->port, '/ht/a.x' => $httpd->port,
    '/ht2/a.x' => $httpd->port,
    '/link/a' => $port->sockport, '/unix/a' => $port->sockport,
);

subtest 'a name works wherever a handler does' => sub {
    for my $url (sort keys %url) {
        my $answer = Client->get($url{$url}, $url, 'X-Name' => 'nAmed');
        is($answer->status, 200, $url) or diag $httpd->error_log;
        is($answer->body, $url, 'answered');
    }
};

# While one way holds the one place, a request on any other stands in line.
for my $first ('/set/', '/link/', '/address/') {
    subtest "one account: $first runs" => sub {
        for my $second (sort keys %url) {
            my $held = "${first}held" . ($second =~ s/\W//gr);
            my $port = $first eq '/link/' ? $port->sockport : $httpd->port;
            my $conn = Client->connect($port);
            $conn->send("GET $held HTTP/1.1\r\nHost: x\r\n"
                        . "Connection: close\r\n\r\n");
            ok($conn->read_until(qr/begun/), "$held runs");
            my $query = "$second?" . $held;
            my $waiting = Client->connect($url{$second});
            $waiting->send("GET $query HTTP/1.1\r\nHost: x\r\n"
                           . "X-Name: named\r\nConnection: close\r\n\r\n");
            # Nothing comes of it meanwhile, which takes a moment to see.
            ok(!defined $waiting->read_until(qr/./, 0.1),
               "$second waits");
            my $released = time;
            $app->release($held);
            ok($conn->read_response->complete, 'the first one ends');
            my $answer = $waiting->read_response;
            is($answer->body, $query, 'then the other runs');
            ok($answer->complete, 'to its end');
            my $asked = { at => 0, uri => '' };
            while ($asked && $asked->{uri} ne $query) {
                $asked = $app->wait_report('asked');
            }
            cmp_ok($asked->{at}, '>=', $released, 'not before');
        }
    };
}

$httpd->ok_healthy;
Httpd->ok_left;
done_testing;
